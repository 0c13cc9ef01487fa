"""The dynamics that a network has learned: fixed and slow points, cycles, and their branches."""

from rnnjax.dynamics.continuation import Branch, Folds, continue_fixed_point
from rnnjax.dynamics.fixed import Cycles, FixedPoints, SearchReport, cycles, fixed_points
from rnnjax.dynamics.inputs import input_jacobians, overlaps
from rnnjax.dynamics.maps import flat_states
from rnnjax.dynamics.stability import Stability, stability
from rnnjax.dynamics.starts import spread, visited_states

__all__ = [
    "Branch",
    "Cycles",
    "FixedPoints",
    "Folds",
    "SearchReport",
    "Stability",
    "continue_fixed_point",
    "cycles",
    "fixed_points",
    "flat_states",
    "input_jacobians",
    "overlaps",
    "spread",
    "stability",
    "visited_states",
]
