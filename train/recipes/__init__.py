"""Training recipes of the bundled diffusion models and of the classifiers behind the bundled
features."""

from __future__ import annotations

from .images import RECIPES as RECIPES
