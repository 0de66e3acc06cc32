"""The diffusers scheduler over any sampler of the registry."""

from .scheduler import ConfigError, FewstepScheduler, SchedulerMixin

__all__ = ["ConfigError", "FewstepScheduler", "SchedulerMixin"]
