"""Training recipes of the bundled diffusion models and of the classifiers behind the bundled
features."""

from __future__ import annotations

from ..loop import Recipe
from .fields import FIELDS as FIELDS
from .images import RECIPES as IMAGES

#: all recipes of diffusion models by name
RECIPES: dict[str, Recipe] = {**IMAGES, **FIELDS}
