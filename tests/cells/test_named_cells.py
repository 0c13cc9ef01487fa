"""What holds for every cell that has a name."""

import jax
import jax.numpy as jnp
import pytest

from rnnjax import networks


@pytest.mark.parametrize("name", networks.NAMED_CELLS)
def test_inputs_of_another_width_are_named(name):
    cell = networks.make_cell(name, 4)

    def project():
        return cell.project(cell.prepare(cell.init(jax.random.key(0), 3)), jnp.zeros((2, 5)))

    with pytest.raises(ValueError, match=r"inputs must have 3 features.* got shape \(2, 5\)"):
        jax.eval_shape(project)
