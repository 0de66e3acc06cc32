"""Ratings of physical fields: residual metrics, errors, spectra, drifts and coverage, each beside
the value of true solutions."""
