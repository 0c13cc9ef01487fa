"""Tables as experiments store them."""

import dataclasses

import pytest

from rnnjax.runs import Run


@pytest.fixture
def stored(tmp_path):
    """Write a table and read it back, as experiments do."""

    @dataclasses.dataclass
    class Config:
        steps: int = 50

    run = Run.create(tmp_path / "run", Config())

    def write_and_read(parts):
        run.write_table("table", parts)
        return run.read_table("table")

    return write_and_read
