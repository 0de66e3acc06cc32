"""Multistep samplers: methods that combine stored predictions of earlier steps. Each file holds one
family."""
