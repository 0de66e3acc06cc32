"""Singlestep samplers: one family a file."""
