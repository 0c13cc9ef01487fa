"""What gradients do on their way through time, for any cell."""

from rnnjax.diagnostics.adjoints import (
    adjoints,
    log_gradient_profile,
    log_gradient_profile_by_part,
)
from rnnjax.diagnostics.gates import GateStatistics, gate_statistics, gates
from rnnjax.diagnostics.jacobians import SingularValues, jacobian_singular_values, jacobians
from rnnjax.diagnostics.live import (
    adjoint_norms,
    gate_saturation,
    log_spaced,
    update_ratios,
    zero_perturbations,
)
from rnnjax.diagnostics.lyapunov import LyapunovSpectrum, lyapunov_spectrum
from rnnjax.diagnostics.memory import (
    Estimate,
    confidence_interval,
    fisher_memory_curve,
    memory_horizon,
    time_constant,
)
from rnnjax.diagnostics.parameter_gradients import (
    gradient_signal_to_noise,
    parameter_gradient_by_lag,
)
from rnnjax.diagnostics.paths import CarouselSplit, log_carousel_profile
from rnnjax.diagnostics.profiles import by_lag, decay_rate, half_life, quartiles

__all__ = [
    "CarouselSplit",
    "Estimate",
    "GateStatistics",
    "LyapunovSpectrum",
    "SingularValues",
    "adjoint_norms",
    "adjoints",
    "by_lag",
    "confidence_interval",
    "decay_rate",
    "fisher_memory_curve",
    "gate_saturation",
    "gate_statistics",
    "gates",
    "gradient_signal_to_noise",
    "half_life",
    "jacobian_singular_values",
    "jacobians",
    "log_carousel_profile",
    "log_gradient_profile",
    "log_gradient_profile_by_part",
    "log_spaced",
    "lyapunov_spectrum",
    "memory_horizon",
    "parameter_gradient_by_lag",
    "quartiles",
    "time_constant",
    "update_ratios",
    "zero_perturbations",
]
