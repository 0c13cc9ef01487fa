"""Weights from and to other libraries, none of which is needed: PyTorch and Keras.

Both ways the numbers stay the same and only their names, order and layout change.
"""

from rnnjax.interop.keras import from_keras, to_keras
from rnnjax.interop.pytorch import from_torch, to_torch

__all__ = ["from_keras", "from_torch", "to_keras", "to_torch"]
