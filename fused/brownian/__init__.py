"""Brownian paths from counter-based normals."""
