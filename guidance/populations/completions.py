"""Runs from the states of a population to the end: what its particles may become."""

from __future__ import annotations

from torch import Tensor

from ...fused.noise.seeded import SeededNoise
from ...plans.plan import Plan
from ...plans.running.noise_sources import NoiseSource
from .population import Population, Rows, Setting

#: particle numbers of the noises of completions begin here: those of populations are smaller
FIRST = 1 << 24


def completed(population: Population, plan: Plan, count: int = 1) -> Population:
    """Run ``plan`` from the current states, ``count`` times each, and return the finished
    population of S samples with ``P count`` particles; particle p has the places ``p count ..``.

    Its noises, where the plan draws some, have particle numbers of their own, other ones at each
    network call of the population.
    """
    setting, size = population.setting, population.particles * count
    base = FIRST + population.index * size
    x = population.cursor.x

    def start(rows: Rows) -> Tensor:
        return x.repeat_interleave(count, 0)

    def noise(rows: Rows) -> NoiseSource:
        return SeededNoise(rows.seeds, particles=tuple(base + p for p in rows.particles))

    inner = Setting(
        plan,
        setting.denoiser,
        setting.seeds,
        size,
        start,
        noise,
        setting.cond,
        setting.batch,
        setting.sampler,
    )
    ends = Population(inner)
    while not ends.done:
        ends.step()
    return ends
