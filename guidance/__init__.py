"""Guidance: wrappers around a denoiser that are denoisers themselves (likelihoods, operators,
populations). Samplers need no change to use them."""
