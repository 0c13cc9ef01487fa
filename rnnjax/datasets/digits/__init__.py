"""Sequential handwritten digits: 8x8 real images read one pixel per step, 64 steps."""

from rnnjax.datasets.digits.loader import SIZES, STEPS, load, permutation, pipeline, prepare

__all__ = [
    "SIZES",
    "STEPS",
    "load",
    "permutation",
    "pipeline",
    "prepare",
]
