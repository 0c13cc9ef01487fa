"""The dynamics that a network has learned: fixed and slow points, cycles, and their branches."""

from rnnjax.dynamics.continuation import Branch, Folds, continue_fixed_point
from rnnjax.dynamics.fixed import Cycles, FixedPoints, SearchReport, cycles, fixed_points
from rnnjax.dynamics.flow import flow_in_plane
from rnnjax.dynamics.inputs import input_jacobians, overlaps
from rnnjax.dynamics.maps import flat_states
from rnnjax.dynamics.stability import Stability, stability
from rnnjax.dynamics.starts import spread, visited_states
from rnnjax.dynamics.trajectories import at_phases, first_crossing, mean_distance, mean_speed

__all__ = [
    "Branch",
    "Cycles",
    "FixedPoints",
    "Folds",
    "SearchReport",
    "Stability",
    "at_phases",
    "continue_fixed_point",
    "cycles",
    "first_crossing",
    "fixed_points",
    "flat_states",
    "flow_in_plane",
    "input_jacobians",
    "mean_distance",
    "mean_speed",
    "overlaps",
    "spread",
    "stability",
    "visited_states",
]
