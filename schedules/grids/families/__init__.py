"""Grid families, one a module. Importing the package imports and so registers all of them."""

from __future__ import annotations

from ....checks.modules import import_all

FAMILIES = import_all(__name__, __path__)
