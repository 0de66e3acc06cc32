"""The fused linear combination of a solver step."""
