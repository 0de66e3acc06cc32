"""``FewstepScheduler``: any sampler of the registry as a diffusers scheduler."""

from .scheduler import ConfigError, FewstepScheduler, SchedulerMixin

__all__ = ["ConfigError", "FewstepScheduler", "SchedulerMixin"]
