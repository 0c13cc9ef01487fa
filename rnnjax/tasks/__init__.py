"""Tasks: one synthetic problem per file, sampled on the device. Your own needs no entry here."""

from rnnjax.tasks import trials
from rnnjax.tasks.adding_arjovsky2016 import AddingArjovsky2016
from rnnjax.tasks.adding_hochreiter1997 import AddingHochreiter1997
from rnnjax.tasks.associative_recall import AssociativeRecall
from rnnjax.tasks.automaton import Automaton, Language
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
from rnnjax.tasks.cycle_navigation import CycleNavigation
from rnnjax.tasks.delayed_recall import DelayedRecall
from rnnjax.tasks.delayed_xor import DelayedXOR
from rnnjax.tasks.delayed_xor_engelken2023 import DelayedXOREngelken2023
from rnnjax.tasks.even_pairs import EvenPairs
from rnnjax.tasks.modular_arithmetic import ModularArithmetic
from rnnjax.tasks.n_bit_flip_flop import NBitFlipFlop
from rnnjax.tasks.padded import Padded, pad
from rnnjax.tasks.parity import Parity
from rnnjax.tasks.pixel_digits import PixelDigits
from rnnjax.tasks.selective_copy import SelectiveCopy
from rnnjax.tasks.sine_generation import SineGeneration
from rnnjax.tasks.temporal_order import TemporalOrder
from rnnjax.tasks.temporal_order_hochreiter1997 import TemporalOrderHochreiter1997
from rnnjax.tasks.variable_copy import VariableCopy
from rnnjax.tasks.vector_memory_collins2017 import VectorMemoryCollins2017
from rnnjax.tasks.word_problem import WordProblem

__all__ = [
    "AddingArjovsky2016",
    "AddingHochreiter1997",
    "AssociativeRecall",
    "Automaton",
    "Batch",
    "Classification",
    "CopyMemory",
    "CycleNavigation",
    "DelayedRecall",
    "DelayedXOR",
    "DelayedXOREngelken2023",
    "EvenPairs",
    "Language",
    "ModularArithmetic",
    "NBitFlipFlop",
    "Padded",
    "Parity",
    "PixelDigits",
    "Question",
    "Regression",
    "Sampled",
    "SelectiveCopy",
    "SineGeneration",
    "Task",
    "TemporalOrder",
    "TemporalOrderHochreiter1997",
    "VariableCopy",
    "VectorMemoryCollins2017",
    "WordProblem",
    "ask",
    "last_answer",
    "pad",
    "trials",
]
