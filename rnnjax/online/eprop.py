"""E-prop: eligibility traces that pass through each unit's own state, and not through U."""

import dataclasses

from rnnjax.cells.gated import GatedStep, is_gated
from rnnjax.online import local
from rnnjax.online.influence import Influence


@dataclasses.dataclass(frozen=True)
class EProp(Influence):
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

    def is_local(self, cell, example):
        """Return True, or raise the TypeError."""
        return local.check(self, cell, example)

    def advance(self, cell, step, example, traces):
        """Return e'."""
        return local.after_step(cell, example, step, traces, cut_blocks(cell, example))


def cut_blocks(cell, example):
    """Return each unit's block of the Jacobian with the recurrent product held fixed."""

    def cut(ready, carry, u):
        fixed = cell.recur(ready, example.carry, u)
        return cell.next_carry(cell.elementwise(ready), carry, u, fixed)

    has_product = isinstance(cell, GatedStep) and is_gated(cell)
    after, entering = local.step_of_leaves(cell, example, cut if has_product else None)
    if not local.of_units(after, entering):
        raise TypeError(
            f"EProp cannot serve {type(cell).__name__}: it needs units that see each other through "
            "the recurrent product of a gated cell alone"
        )
    return local.UNITS.jacobian(after, entering)
