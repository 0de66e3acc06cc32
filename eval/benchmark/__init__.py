"""The benchmark: samplers x grids x network calls x models."""
