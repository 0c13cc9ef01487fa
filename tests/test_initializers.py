"""The public place of the initialisers; their values are tested with the cells."""

from rnnjax import initializers
from rnnjax.cells.initializers import Identity


def test_initialisers_are_where_people_look_for_them():
    assert initializers.Identity is Identity
    for name in initializers.__all__:
        assert getattr(initializers, name).__module__ == "rnnjax.cells.initializers"
