"""Networks saved by diffusers, as denoisers."""
