"""Metrics of samples and of their features, one family a file."""
