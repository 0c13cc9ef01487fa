"""Gradients forward in time: methods that carry traces beside the state."""

from rnnjax.online.base import Method
from rnnjax.online.eprop import EProp
from rnnjax.online.feedback import random_feedback
from rnnjax.online.gradient import (
    State,
    gradient,
    in_stretches,
    largest,
    start,
    value_and_gradient,
)
from rnnjax.online.rflo import RFLO
from rnnjax.online.rtrl import RTRL
from rnnjax.online.snap import SnAp
from rnnjax.online.truncated import Truncated
from rnnjax.online.uoro import UORO

__all__ = [
    "RFLO",
    "RTRL",
    "UORO",
    "EProp",
    "Method",
    "SnAp",
    "State",
    "Truncated",
    "gradient",
    "in_stretches",
    "largest",
    "random_feedback",
    "start",
    "value_and_gradient",
]
