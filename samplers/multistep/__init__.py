"""Multistep samplers: one family a file."""
