"""Tasks: one synthetic problem per file, sampled on the device. Your own needs no entry here."""

from rnnjax.tasks.adding_arjovsky2016 import AddingArjovsky2016
from rnnjax.tasks.adding_hochreiter1997 import AddingHochreiter1997
from rnnjax.tasks.base import (
    Batch,
    Classification,
    Question,
    Regression,
    Sampled,
    Task,
    ask,
    last_answer,
)
from rnnjax.tasks.copy_memory import CopyMemory
from rnnjax.tasks.padded import Padded
from rnnjax.tasks.pixel_digits import PixelDigits
from rnnjax.tasks.temporal_order import TemporalOrder

__all__ = [
    "AddingArjovsky2016",
    "AddingHochreiter1997",
    "Batch",
    "Classification",
    "CopyMemory",
    "Padded",
    "PixelDigits",
    "Question",
    "Regression",
    "Sampled",
    "Task",
    "TemporalOrder",
    "ask",
    "last_answer",
]
