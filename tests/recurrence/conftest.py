"""What the tests of recurrence share."""

import pytest

from rnnjax.recurrence import fast, in_cache
from rnnjax.recurrence.running import _unroll


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of four steps: seven steps then need two, and the second overlaps the first.

    Of cells without weights in their step, chunks of three: the last has a single step.
    """
    monkeypatch.setattr(fast, "CHUNK_BYTES", 1)
    for kind in ("STEPS", "MATRICES"):
        monkeypatch.setattr(in_cache, f"FEWEST_{kind}", 3)
    for kind in ("CHUNK", "MATRIX"):
        monkeypatch.setattr(in_cache, f"{kind}_BYTES", 1)
    _unroll.clear_cache()
    yield
    _unroll.clear_cache()
