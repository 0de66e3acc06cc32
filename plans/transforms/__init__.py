"""Transforms, which make a plan from a plan."""
