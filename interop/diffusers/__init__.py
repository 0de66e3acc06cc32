"""``FewstepScheduler``: any sampler of the registry as a diffusers scheduler; ``guided``: a
pipeline with guidance of fewstep."""

from .guided_pipelines import guided
from .inversion import inverse_plan, invert
from .scheduler import ConfigError, FewstepScheduler, SchedulerMixin

__all__ = ["ConfigError", "FewstepScheduler", "SchedulerMixin", "guided", "inverse_plan", "invert"]
