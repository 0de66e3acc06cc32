"""Adapters to other programs: the diffusers scheduler, and functions with k-diffusion's signatures.
Each is imported at first use."""
