"""``Tuned``, what ``fewstep.tune`` returns: a plan, what it was tuned for, what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checks import ArgumentError, instance
from ..files import write
from ..plans.plan import Plan
from ..plans.plan_file import MadeFor, plan_file_text, read_plan_file


@dataclass(frozen=True)
class Tuned:
    """A tuned plan with its provenance.

    Attributes:
        plan: the plan; ``fewstep.run`` runs it on any model.
        made_for: the model, schedule and guidance that it was tuned for. ``fewstep.sample(den,
            plan=tuned)`` refuses others.
        report: what was measured, plain JSON (docs/tune.md).
    """

    plan: Plan
    made_for: MadeFor
    report: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        instance("plan", self.plan, Plan, "a plan, as fewstep.plan makes it")
        instance("made_for", self.made_for, MadeFor, "a MadeFor")

    def save(self, path: str | Path) -> None:
        """Write plan and provenance to the JSON file ``path``, whole or not at all."""
        if not str(path).strip():
            raise ArgumentError(f"path={str(path)!r}: must be the name of a file")
        text = plan_file_text(self.plan, self.made_for, self.report)
        write(Path(path), text.encode())

    @classmethod
    def load(cls, path: str | Path) -> Tuned:
        """Read what ``save`` wrote. The plan is type-checked again; PlanError for other files."""
        return cls(*read_plan_file(path))
