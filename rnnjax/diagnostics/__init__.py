"""What gradients do on their way through time, for any cell."""

from rnnjax.diagnostics.adjoints import (
    adjoints,
    log_gradient_profile,
    log_gradient_profile_by_part,
)
from rnnjax.diagnostics.profiles import by_lag, decay_rate, half_life, quartiles

__all__ = [
    "adjoints",
    "by_lag",
    "decay_rate",
    "half_life",
    "log_gradient_profile",
    "log_gradient_profile_by_part",
    "quartiles",
]
