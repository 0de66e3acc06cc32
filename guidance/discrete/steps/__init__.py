"""Samplers of tokens, one file a published step; each registers itself."""
