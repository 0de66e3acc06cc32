"""Make ``kdiffusion.npz`` from the public k-diffusion package:
``python tests/golden/extract_kdiffusion.py FOLDER``.

FOLDER holds ``k_diffusion/``. Only its ``sampling.py`` is used, without torchdiffeq, torchsde and
the package's other modules.
"""

from __future__ import annotations

import inspect
import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from kdiffusion_cases import ARRAYS, LISTED, cases, record  # noqa: E402


def sampling(folder: Path) -> Any:
    """``k_diffusion.sampling`` of ``folder``, with stand-ins for what it imports and these cases do
    not use."""
    package, utils = ModuleType("k_diffusion"), ModuleType("k_diffusion.utils")
    package.__path__ = [str(folder / "k_diffusion")]
    utils.append_dims = lambda x, ndim: x.reshape(x.shape + (1,) * (ndim - x.ndim))  # type: ignore[attr-defined]
    ode = ModuleType("torchdiffeq")
    ode.odeint = None  # type: ignore[attr-defined]
    sys.modules |= {
        "k_diffusion": package,
        "k_diffusion.utils": utils,
        "torchdiffeq": ode,
        "torchsde": ModuleType("torchsde"),
    }
    return import_module("k_diffusion.sampling")


def main(folder: Path) -> None:
    """Record every case."""
    theirs = sampling(folder)
    found = [(case, record(getattr(theirs, case.function), case)) for case in cases()]
    arrays = {
        name: np.concatenate([made[name].reshape(-1) for _, made in found]).astype(np.float64)
        for name in ARRAYS
    }
    listed = [
        {"id": case.id, "keys": made["keys"], **{name: made[name].shape for name in ARRAYS}}
        for case, made in found
    ]
    signatures = {}
    for name in (*LISTED, "sample_dpm_fast", "sample_dpm_adaptive"):
        parameters = inspect.signature(getattr(theirs, name)).parameters.values()
        signatures[name] = [[p.name, p.kind.name, repr(p.default)] for p in parameters]
    np.savez_compressed(
        HERE / "kdiffusion.npz",
        facts=np.array(json.dumps({"cases": listed, "signatures": signatures})),
        **arrays,
    )
    print(f"{len(found)} calls recorded")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
