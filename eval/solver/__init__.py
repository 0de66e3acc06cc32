"""Solver error on a model: distance from converged trajectories, strong and weak error, and the
cost in network calls.
"""
