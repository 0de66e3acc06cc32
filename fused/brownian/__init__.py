"""Brownian paths by counter."""
