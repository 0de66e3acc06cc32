"""Steering of populations: methods that choose among samples by a reward and need no gradient."""
