"""Real series for forecasting and anomaly detection: loaded, transformed, cut into forecasts."""

from rnnjax.datasets.series.forecasts import Fold, inputs, origins, targets, walk_forward
from rnnjax.datasets.series.loader import Series, load
from rnnjax.datasets.series.sources import LIMITS, MEASUREMENTS, PRICES
from rnnjax.datasets.series.text_file import read_file
from rnnjax.datasets.series.transforms import Scaling, carried_forward, log_ranges, log_returns

__all__ = [
    "LIMITS",
    "MEASUREMENTS",
    "PRICES",
    "Fold",
    "Scaling",
    "Series",
    "carried_forward",
    "inputs",
    "load",
    "log_ranges",
    "log_returns",
    "origins",
    "read_file",
    "targets",
    "walk_forward",
]
