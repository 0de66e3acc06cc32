"""Diagnostics of a model's score: Fokker-Planck residual, symmetry of the Jacobian, intrinsic
dimension.
"""
