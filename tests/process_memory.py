"""How much memory a test process uses, and how to keep it below two gigabytes.

A compiled program stays in memory until JAX's caches are cleared.
"""

import ctypes
import gc
import os
import resource
import sys
from pathlib import Path

import jax

CLEAR_ABOVE = 0.95  # GB in use after a test
CLEAR_AFTER = 0.25  # GB more than after the caches were last cleared
NEW_FILE = 1.05  # GB above which they are cleared before the tests of another file
LIMIT = 2.0  # GB, at any time


def memory():
    """Return how many gigabytes of memory this process uses."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not on Linux: the peak, which never falls
        return peak_memory()
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e9


def peak_memory():
    """Return the most memory that this process has used, in gigabytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def clear_caches():
    """Free every compiled program, and return the memory to the operating system."""
    jax.clear_caches()
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


_limit = CLEAR_ABOVE


def bound_memory(limit=None):
    """Clear the caches if this process uses much more memory than after the last time.

    Called after every test. A test that compiles many programs calls it between them.

    Args:
        limit: in GB; None means that of the last time.
    """
    global _limit
    if memory() > (_limit if limit is None else limit):
        clear_caches()
        _limit = max(CLEAR_ABOVE, memory() + CLEAR_AFTER)
