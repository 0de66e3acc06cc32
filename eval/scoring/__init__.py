"""Scoring: several metrics with confidence intervals from one pass over the samples."""
