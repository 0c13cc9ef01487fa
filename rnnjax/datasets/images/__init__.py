"""Images with one of ten labels: handwritten digits, small and large, and clothes."""

from rnnjax.datasets.images.loader import load
from rnnjax.datasets.images.picture import read_file
from rnnjax.datasets.images.sources import CLOTHES, DIGITS, NAMES, SIZES, SOURCES

__all__ = [
    "CLOTHES",
    "DIGITS",
    "NAMES",
    "SIZES",
    "SOURCES",
    "load",
    "read_file",
]
