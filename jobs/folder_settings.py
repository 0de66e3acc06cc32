"""The settings of a folder compared with those of a call, whatever versions wrote them.

Two calls draw the same samples if their plans, their models and their conditions have the same
hashes and the remaining settings are equal. So the names behind a hash (``sampler``, ``steps``,
``option``, ``model``, ...) are not compared: an option that was renamed or added since the folder
was written changes nothing as long as the plan is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .settings import parse_seeds, parse_size

#: settings that a folder of an older version may lack, with the value that they then have; a new
#: setting that decides the bytes belongs here
DEFAULTS: Mapping[str, Any] = {
    "cond": None,
    "cond_sha256": None,
    "value_range": None,
    "guidance": None,
    "guidance_scale": None,
    "guidance_interval": None,
    "guidance_option": {},
    "steer": None,
    "reward": None,
    "particles": None,
    "steer_option": {},
    "reward_sha256": None,
}
#: former name of a setting -> its name
RENAMED: Mapping[str, str] = {}
#: the sampler of version 0.1 where none was named
FORMER_SAMPLER = "dpmpp_2m"
#: grid in a folder of version 0.1 -> its name
FORMER_GRIDS: Mapping[str, str] = {"auto": "auto_0_1"}
#: written for people
IGNORED = ("fewstep",)
_REQUEST = ("sampler", "steps", "nfe", "grid", "final", "option")
#: hash -> the settings that it stands for
BEHIND: Mapping[str, tuple[str, ...]] = {
    "plan_sha256": _REQUEST,
    "request_sha256": _REQUEST,
    "model_sha256": ("model",),
    "cond_sha256": ("cond",),
    "measurement_sha256": ("measurement",),
    "truth_sha256": ("truth",),
}

Settings = Mapping[str, Any]
#: see ``Drawing.former``
Former = Callable[[Settings], str | None]


def differences(
    found: Settings, wanted: Settings, same_request: Callable[[Settings], bool] | None = None
) -> list[str]:
    """The settings of ``wanted`` that are not those of the folder, ``found``; empty if both are the
    same. Seeds that begin with the folder's are no difference.

    ``same_request`` is asked about a driver in a folder of version 0.1, whose hash was made of the
    names of its options.
    """
    there, now = _filled(found), _filled(wanted)
    if "request_sha256" in now and "plan_sha256" in there and same_request is not None:
        grid = there.get("grid")
        if same_request({**there, "grid": FORMER_GRIDS.get(str(grid), grid)}):
            there["request_sha256"] = now["request_sha256"]
        del there["plan_sha256"]
    hashed = [key for key in BEHIND if key in there and key in now]
    behind = {name for key in hashed for name in BEHIND[key]}
    differ = [
        key
        for key in dict.fromkeys((*now, *there))
        if key not in behind and not _same(key, there.get(key), now.get(key))
    ]
    return [name for key in differ for name in _named(key, there, now)]


def adds_seeds(found: Settings, wanted: Settings) -> bool:
    """True if ``wanted`` has seeds after those of the folder."""
    if "seeds" not in found or found["seeds"] == wanted.get("seeds"):
        return False
    return len(parse_seeds(found["seeds"])) < len(parse_seeds(wanted["seeds"]))


def _filled(settings: Settings) -> dict[str, Any]:
    """Former names replaced, defaults filled in, what is only for people left out."""
    said = {RENAMED.get(key, key): value for key, value in settings.items()}
    return {**DEFAULTS, **{key: value for key, value in said.items() if key not in IGNORED}}


def _same(key: str, there: Any, now: Any) -> bool:
    if there == now:
        return True
    try:
        if key == "seeds":
            before, after = parse_seeds(there), parse_seeds(now)
            return after[: len(before)] == before
        if key == "size":
            return parse_size(there) == parse_size(now)
    except (ValueError, TypeError):  # the folder's text is not readable
        return False
    return key == "labels" and str(there) == str(now)


def _named(key: str, there: Settings, now: Settings) -> list[str]:
    """The setting with both values; of a hash, the settings behind it that differ."""
    behind = [name for name in BEHIND.get(key, ()) if there.get(name) != now.get(name)]
    return [
        f"{name} ({there.get(name)!r} there, {now.get(name)!r} now)" for name in behind or [key]
    ]
