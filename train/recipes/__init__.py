"""Training recipes: of the bundled diffusion models, and of the classifiers whose features are
bundled."""

from __future__ import annotations

from .images import RECIPES as RECIPES
