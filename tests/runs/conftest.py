"""A new run."""

import pytest
from run_directories import Config

from rnnjax.runs import Run


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "new" / "run", Config())
