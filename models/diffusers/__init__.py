"""Networks saved by diffusers."""
