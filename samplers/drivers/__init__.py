"""Drivers: samplers whose steps depend on the data and so cannot be compiled to a plan."""
