"""E-prop: eligibility traces that pass through each unit's own state, and not through U."""

import dataclasses
import functools

from rnnjax.cells.gated import GatedStep, is_gated
from rnnjax.online import local
from rnnjax.online.base import Method
from rnnjax.recurrence.carries import partition


@dataclasses.dataclass(frozen=True)
class EProp(Method):
    """e' = D e + df/dtheta,   D the Jacobian of the step with the recurrent product v = a U held
    fixed.

    What a state passes on to itself is kept (the cell of an LSTM, the leak of a rate unit); what
    passes through the recurrent kernel is not. It is the gradient of back-propagation with the
    recurrent path cut. Where there is no recurrent product, as in linear cells, it is exact.
    Random feedback is that of the readout: `online.random_feedback`.
    Source: Bellec et al. 2020, "A solution to the learning dilemma for recurrent networks of
    spiking neurons", Nature Communications 11.

    Raises:
        TypeError: a parameter of the cell enters the state of several units, or a unit sees others
            by more than a recurrent product that the cell names (`GatedStep`).
    """

    def start(self, cell, step, example, key):
        """Return zeros `[k, P]`."""
        del key
        local.check(self, cell, example)
        cut_blocks(cell, example)
        return local.zeros(example, step)

    def advance(self, cell, step, example, traces):
        """Return e'."""
        return local.after_step(cell, example, step, traces, cut_blocks(cell, example))

    def pull(self, cell, step, example, traces, slope):
        """Return the sum of slope e over the numbers of each parameter's unit."""
        del step
        return local.pulled(cell, example, traces, slope)


def cut_blocks(cell, example):
    """Return each unit's block of the Jacobian with the recurrent product held fixed."""
    entering, merge = partition(example.carry)
    ready = cell.prepare(example.params)
    u = cell.project(ready, example.x)
    advance = functools.partial(cell.step, ready)
    if isinstance(cell, GatedStep) and is_gated(cell):
        fixed, some = cell.recur(ready, example.carry, u), cell.elementwise(ready)
        gated = cell

        def advance(carry, u):
            return gated.next_carry(some, carry, u, fixed)

    def after(leaves):
        return partition(advance(merge(leaves), u), like=example.carry)[0]

    if not local.of_units(after, entering):
        raise TypeError(
            f"EProp cannot serve {type(cell).__name__}: it needs units that see each other through "
            "the recurrent product of a gated cell alone"
        )
    return local.UNITS.jacobian(after, entering)
