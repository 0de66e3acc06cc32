"""Integrators in time of the reference solvers."""
