"""Running a plan: lowering, the loop, the compiled step, checks of numbers."""
