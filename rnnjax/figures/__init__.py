"""Arrays to matplotlib figures. No files, no training.

The tables are columns of equal length, as `rnnjax.runs.Run.write_table` stores them. Logarithms in
tables are natural; axes are labelled in powers of ten. `series` gives each series its label,
colour and marker, the same in every figure; the lag axis is labelled `LAG`.
"""

from rnnjax.figures.bifurcations import bifurcations
from rnnjax.figures.drawing import Table
from rnnjax.figures.phase_planes import flow_field, phase_plane, trajectories
from rnnjax.figures.profiles import (
    gradient_profiles,
    layer_profiles,
    learning_curves,
    path_split,
    profile_over_training,
)
from rnnjax.figures.psychometrics import psychometric_curves
from rnnjax.figures.spectra import log_spectra
from rnnjax.figures.styles import COLOURS, LAG, Style, series
from rnnjax.figures.surfaces import loss_surface
from rnnjax.figures.sweeps import heat_maps, parallel_coordinates
from rnnjax.figures.tables import comparison, curves, points
from rnnjax.figures.weights import block_maps, eigenvalues, histograms, singular_values

__all__ = [
    "COLOURS",
    "LAG",
    "Style",
    "Table",
    "bifurcations",
    "block_maps",
    "comparison",
    "curves",
    "eigenvalues",
    "flow_field",
    "gradient_profiles",
    "heat_maps",
    "histograms",
    "layer_profiles",
    "learning_curves",
    "log_spectra",
    "loss_surface",
    "parallel_coordinates",
    "path_split",
    "phase_plane",
    "points",
    "profile_over_training",
    "psychometric_curves",
    "series",
    "singular_values",
    "trajectories",
]
