"""Samplers compared on a model of physical fields: network calls against the equation's residual,
the error of the solution and the distance of the distributions."""
