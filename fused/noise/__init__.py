"""Counter-based normals: Philox4x32-10 and Box-Muller."""
