"""Time grids: how they are made and named."""
