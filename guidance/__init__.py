"""Guidance wraps a denoiser and is a denoiser: likelihoods, operators, populations. Samplers never
hear of it."""
