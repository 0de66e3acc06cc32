"""Singlestep samplers: methods that use only the evaluations of the current step. Each file holds
one family."""
