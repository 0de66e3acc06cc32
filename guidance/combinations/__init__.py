"""Combinations of the predictions of one network call or of several networks: classifier-free
guidance and its kin."""
