"""Solver error on a model: distance from converged trajectories, strong and weak error, counted
network calls."""
