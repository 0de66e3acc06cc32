"""Recipe of the bundled model of Darcy flow: the coefficient a and the solution u of ``-div(a grad
u) = 1``, jointly, on 64 x 64 nodes.

The maps ``a' = 0.2 a - 1.5`` and ``u' = 115 u - 0.9`` are those of Huang et al. 2024
(arXiv 2406.17763). The noise levels cover 0.02 to 12, where the fields are decided: at the default
levels of images a field of few modes is known already.
"""

from __future__ import annotations

from ...models.field_maps import FieldMap, FieldMaps
from ...models.unet import UNetConfig
from ..loop import Recipe

FIELDS: dict[str, Recipe] = {
    "darcy": Recipe(
        UNetConfig(
            64, 2, 0, widths=(64, 64, 96, 96), blocks=(1, 1, 2, 1), attention=(2, 3), embedding=128
        ),
        lr=2e-3,
        batch=16,
        warmup=200,
        square=True,
        dropout_label=0.0,
        p_mean=-0.7,
        p_std=1.5,
        sigma_data=0.72,
        weights=(1.0, 3.0),
        fields=FieldMaps((FieldMap("a", 0.2, -1.5), FieldMap("u", 115.0, -0.9))),
    ),
}
