"""Real series for forecasting and anomaly detection: loaded, transformed, cut into forecasts."""

from rnnjax.datasets.series.forecasts import (
    Fold,
    forecast_examples,
    inputs,
    last_days,
    origins,
    root_mean_square,
    targets,
    walk_forward,
)
from rnnjax.datasets.series.loader import Series, load
from rnnjax.datasets.series.parts import Parts, cut
from rnnjax.datasets.series.quantities import Returns, Volatility
from rnnjax.datasets.series.questions import Questions, last_question, questions_at
from rnnjax.datasets.series.sources import LIMITS, MEASUREMENTS, PRICES
from rnnjax.datasets.series.text_file import read_file
from rnnjax.datasets.series.transforms import (
    Scaling,
    carried_forward,
    exponential_average,
    log_ranges,
    log_returns,
)

__all__ = [
    "LIMITS",
    "MEASUREMENTS",
    "PRICES",
    "Fold",
    "Parts",
    "Questions",
    "Returns",
    "Scaling",
    "Series",
    "Volatility",
    "carried_forward",
    "cut",
    "exponential_average",
    "forecast_examples",
    "inputs",
    "last_days",
    "last_question",
    "load",
    "log_ranges",
    "log_returns",
    "origins",
    "questions_at",
    "read_file",
    "root_mean_square",
    "targets",
    "walk_forward",
]
