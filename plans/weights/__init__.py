"""Quadrature weights of every solver, in float64."""
