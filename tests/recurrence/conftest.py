"""What the tests of recurrence share."""

import pytest

from rnnjax.recurrence import fast
from rnnjax.recurrence.running import _unroll


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of four steps: seven steps then need two, and the second overlaps the first."""
    monkeypatch.setattr(fast, "CHUNK_BYTES", 1)
    _unroll.clear_cache()
    yield
    _unroll.clear_cache()
