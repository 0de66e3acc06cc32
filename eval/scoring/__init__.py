"""Scoring: one pass over samples gives every metric with its interval."""
