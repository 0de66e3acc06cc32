"""Scoring: certificates of solvers against exact solutions (later: distances, FID, physics residuals, tables)."""

from __future__ import annotations

from .certification import Certificate, certify, certify_all

__all__ = ["Certificate", "certify", "certify_all"]
