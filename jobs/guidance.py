"""The guidance of drawn samples: method, scale, interval and options, as settings have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..checks import ArgumentError
from .settings import checked, plain_option

if TYPE_CHECKING:
    from ..models.denoiser import Denoiser


@dataclass(frozen=True)
class GuidanceSettings:
    """How the model is guided by the conditions of the samples; nothing without ``guidance``.

    ``guidance``: a name of ``fewstep.guidance.names()``; ``guidance_scale``: its scale;
    ``guidance_interval``: (lo, hi) of rho = sigma / alpha, or a text ``"lo,hi"``;
    ``guidance_option``: the method's further options by name. Raises ArgumentError for a value that
    its setting does not take, for a method without a scale, and for the others without a method.
    """

    guidance: str | None = None
    guidance_scale: float | None = None
    guidance_interval: Any = None
    guidance_option: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, checked(name, value))
        given = [
            name for name in self.__dataclass_fields__ if getattr(self, name) not in (None, {})
        ]
        if self.guidance is None and given:
            raise ArgumentError(f"{given[0]}= without guidance=: name a method, such as 'cfg'")
        if self.guidance is not None and self.guidance_scale is None:
            raise ArgumentError(
                f"guidance={self.guidance!r} without guidance_scale= (--scale): 1 is the "
                "conditional prediction, and more guides"
            )

    def record(self) -> dict[str, Any]:
        """The settings as JSON has them."""
        found = {name: plain_option(getattr(self, name)) for name in self.__dataclass_fields__}
        return {**found, "guidance_option": plain_option(self.guidance_option or {})}

    def guided(self, denoiser: Denoiser) -> Denoiser:
        """The guided model; ``denoiser`` itself without guidance. Raises FewstepError for names and
        options that the method does not have."""
        if self.guidance is None:
            return denoiser
        from ..guidance.combinations.named import guide

        return guide(
            denoiser,
            self.guidance,
            self.guidance_scale,
            interval=self.guidance_interval,
            options=self.guidance_option,
        )
