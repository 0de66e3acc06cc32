"""Reward functions by name: ``package.module:function`` or ``file.py:function``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .user_functions import function_hash, function_name, named_function

if TYPE_CHECKING:
    from ..guidance.populations.rewards import Reward


def load_reward(given: Any) -> Reward:
    """Return the reward ``given``: a function, a ``guidance.Reward``, or the name of one.

    The module or file of a name is imported, which runs its code. Raises ArgumentError where it
    cannot be, or has no such function.
    """
    from ..guidance.populations.rewards import Reward

    return Reward.of(named_function("reward", given) if isinstance(given, str) else given)


def reward_name(given: Any) -> str:
    """The name of a reward, for records."""
    return function_name(given)


def reward_hash(reward: Reward) -> str:
    """The hash of the reward's function and of what it takes (``user_functions.function_hash``)."""
    return function_hash(reward.function, reward.takes)
