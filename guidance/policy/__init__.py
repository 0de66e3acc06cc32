"""Losses that fine-tune a diffusion or flow model by rewards, or by its own samples.

They are functions of tensors: log-probabilities of recorded steps
(``fewstep.transition_log_prob``), means (``fewstep.transition_means``), predictions, rewards. Where
they come from, the optimiser and the loop are yours.
"""

from __future__ import annotations

from .advantages import combined_advantages, group_advantages
from .branches import Branch, branch_times
from .ddo import ddo_log_ratio, ddo_loss
from .kl import transition_kl
from .nft import nft_decay, nft_loss, nft_minimiser, nft_reward
from .ppo import ppo_loss
from .windows import sliding_window

__all__ = [
    "Branch",
    "branch_times",
    "combined_advantages",
    "ddo_log_ratio",
    "ddo_loss",
    "group_advantages",
    "nft_decay",
    "nft_loss",
    "nft_minimiser",
    "nft_reward",
    "ppo_loss",
    "sliding_window",
    "transition_kl",
]
