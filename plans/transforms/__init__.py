"""Transforms: a plan in, a plan out."""
