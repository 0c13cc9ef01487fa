"""What gradients and states do on their way through time, for any cell.

Time index, the same in every room of rnnjax. A sequence has T steps, t = 0 .. T-1:

    s_0 = initial carry,   s_{t+1} = step(s_t, x_t),   y_t = output(s_{t+1}),
    J_t = d s_{t+1} / d s_t

s_t is the carry that **enters** step t; s_T is the final one. Entry t of an array `[T, ...]` of
gradients or norms is about s_t. Its lag is k = T - t, the number of steps between s_t and the end:
lag 1 is the carry that enters the last step, lag T the initial carry, lag 0 the final carry. With
`seq_lengths` the length of each sequence takes the place of T. Profiles by lag have lag k in entry
k - 1. (`unroll(..., return_carries=True)` returns what the steps produce: `carries[t]` is s_{t+1}.)
"""

from rnnjax.diagnostics.adjoints import (
    adjoints,
    log_gradient_profile,
    log_gradient_profile_by_part,
)
from rnnjax.diagnostics.covariant import CovariantVectors, covariant_lyapunov_vectors
from rnnjax.diagnostics.dimensions import Measurement, entropy_rate, kaplan_yorke_dimension
from rnnjax.diagnostics.finite_time import (
    ConditionalExponents,
    exponents_by_condition,
    finite_time_exponents,
)
from rnnjax.diagnostics.gates import GateStatistics, gate_statistics, gates
from rnnjax.diagnostics.gradient_quality import (
    GradientQuality,
    MeanShare,
    gradient_quality,
    mean_share,
)
from rnnjax.diagnostics.histograms import Histogram, histogram, log_histogram
from rnnjax.diagnostics.jacobians import (
    SingularValues,
    jacobian_singular_values,
    jacobians,
    log_spectrum_statistics,
)
from rnnjax.diagnostics.layers import log_gradient_by_layer
from rnnjax.diagnostics.live import (
    adjoint_norms,
    gate_saturation,
    log_spaced,
    update_ratios,
    zero_perturbations,
)
from rnnjax.diagnostics.loss_profiles import GradientProfile, gradient_profile
from rnnjax.diagnostics.lyapunov import LyapunovSpectrum, lyapunov_spectrum
from rnnjax.diagnostics.mean_field import (
    critical_gain,
    gaussian_mean,
    mean_field_exponent,
    mean_squared_slope,
)
from rnnjax.diagnostics.memory import (
    Estimate,
    confidence_interval,
    fisher_memory_curve,
    leaky_log_profile,
    memory_horizon,
    random_carry_direction,
    time_constant,
)
from rnnjax.diagnostics.newton import NewtonForecast, newton_forecast
from rnnjax.diagnostics.parameter_gradients import (
    gradient_signal_to_noise,
    parameter_gradient_by_lag,
    truncation_errors,
)
from rnnjax.diagnostics.paths import CarouselSplit, log_carousel_profile
from rnnjax.diagnostics.profiles import (
    LineFit,
    by_lag,
    decay_rate,
    half_life,
    line_fit,
    quartiles,
)
from rnnjax.diagnostics.state_space import (
    PrincipalComponents,
    participation_ratio,
    principal_components,
)
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
    Spectrum,
    block_spectra,
    by_gate,
    effective_params,
    health,
    health_report,
    median_spectral_radius,
)

__all__ = [
    "CarouselSplit",
    "ConditionalExponents",
    "CovariantVectors",
    "Estimate",
    "GateStatistics",
    "GradientProfile",
    "GradientQuality",
    "Health",
    "Histogram",
    "LineFit",
    "LyapunovSpectrum",
    "MeanShare",
    "Measurement",
    "NewtonForecast",
    "PrincipalComponents",
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
    "covariant_lyapunov_vectors",
    "critical_gain",
    "decay_rate",
    "effective_params",
    "entropy_rate",
    "entry_direction",
    "exponents_by_condition",
    "finite_time_exponents",
    "fisher_memory_curve",
    "gate_saturation",
    "gate_statistics",
    "gates",
    "gaussian_mean",
    "gradient_profile",
    "gradient_quality",
    "gradient_signal_to_noise",
    "half_life",
    "health",
    "health_report",
    "histogram",
    "jacobian_singular_values",
    "jacobians",
    "kaplan_yorke_dimension",
    "leaky_log_profile",
    "line_fit",
    "log_carousel_profile",
    "log_gradient_by_layer",
    "log_gradient_profile",
    "log_gradient_profile_by_part",
    "log_histogram",
    "log_spaced",
    "log_spectrum_statistics",
    "lyapunov_spectrum",
    "mean_field_exponent",
    "mean_share",
    "mean_squared_slope",
    "median_spectral_radius",
    "memory_horizon",
    "newton_forecast",
    "parameter_gradient_by_lag",
    "participation_ratio",
    "principal_components",
    "project_path",
    "quartiles",
    "random_carry_direction",
    "random_directions",
    "surface",
    "time_constant",
    "truncation_errors",
    "update_ratios",
    "zero_perturbations",
]
