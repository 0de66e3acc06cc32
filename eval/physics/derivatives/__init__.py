"""Derivatives of fields on a grid."""
