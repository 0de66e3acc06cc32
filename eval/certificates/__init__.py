"""Certificates: the measured order of every sampler against exact scores."""
