"""Certificates: measured orders of samplers against exact solutions."""
