"""What every equation offers."""

from __future__ import annotations

import pytest

from fewstep.checks import UnknownName
from fewstep.eval import physics
from fewstep.eval.physics import equation_named


def test_an_equation_by_name():
    assert equation_named("heat") is physics.heat
    with pytest.raises(UnknownName, match="did you mean 'heat'"):
        equation_named("heta")
