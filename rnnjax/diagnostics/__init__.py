"""What gradients do on their way through time, for any cell."""

from rnnjax.diagnostics.adjoints import (
    adjoints,
    log_gradient_profile,
    log_gradient_profile_by_part,
)
from rnnjax.diagnostics.gates import GateStatistics, gate_statistics, gates
from rnnjax.diagnostics.jacobians import SingularValues, jacobian_singular_values, jacobians
from rnnjax.diagnostics.layers import log_gradient_by_layer
from rnnjax.diagnostics.live import (
    adjoint_norms,
    gate_saturation,
    log_spaced,
    update_ratios,
    zero_perturbations,
)
from rnnjax.diagnostics.lyapunov import LyapunovSpectrum, lyapunov_spectrum
from rnnjax.diagnostics.mean_field import gaussian_mean, mean_field_exponent
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
from rnnjax.diagnostics.surfaces import (
    Projection,
    Surface,
    entry_direction,
    project_path,
    random_directions,
    surface,
)
from rnnjax.diagnostics.weights import (
    Health,
    Histogram,
    Spectrum,
    block_spectra,
    by_gate,
    health,
    health_report,
    histogram,
    log_histogram,
)

__all__ = [
    "CarouselSplit",
    "Estimate",
    "GateStatistics",
    "Health",
    "Histogram",
    "LyapunovSpectrum",
    "Projection",
    "SingularValues",
    "Spectrum",
    "Surface",
    "adjoint_norms",
    "adjoints",
    "block_spectra",
    "by_gate",
    "by_lag",
    "confidence_interval",
    "decay_rate",
    "entry_direction",
    "fisher_memory_curve",
    "gate_saturation",
    "gate_statistics",
    "gates",
    "gaussian_mean",
    "gradient_signal_to_noise",
    "half_life",
    "health",
    "health_report",
    "histogram",
    "jacobian_singular_values",
    "jacobians",
    "log_carousel_profile",
    "log_gradient_by_layer",
    "log_gradient_profile",
    "log_gradient_profile_by_part",
    "log_histogram",
    "log_spaced",
    "lyapunov_spectrum",
    "mean_field_exponent",
    "memory_horizon",
    "parameter_gradient_by_lag",
    "project_path",
    "quartiles",
    "random_directions",
    "surface",
    "time_constant",
    "update_ratios",
    "zero_perturbations",
]
