"""Bistable recurrent cells: each unit remembers by itself, in one of two stable states."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name as name
from jax.nn import sigmoid
from jaxtyping import Array

from rnnjax.cells import initializers
from rnnjax.cells.base import zeros
from rnnjax.cells.gated import INITIALISERS, Gated, GatedParams
from rnnjax.cells.initializers import Initializer
from rnnjax.cells.kernels import matmul


class BRCParams(NamedTuple):
    """Parameters of a BRC or an NBRC, gate blocks in the order a, c."""

    input_kernel: Any  # [D, 2H]
    recurrent_kernel: Any  # [2H] of a BRC, [H, 2H] of an NBRC
    bias: Any  # [2H]
    candidate_kernel: Any  # [D, H], U


class BRCCarry(NamedTuple):
    """The state of a bistable recurrent cell."""

    h: Any  # [*batch, H]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Bistable(Gated):
    """What both cells share; they differ in the recurrent kernel of the gates alone."""

    gate_names = ("a", "c")

    candidate_kernel_init: Initializer = initializers.Gaussian()

    def initial_carry(self, batch_shape: Sequence[int]) -> BRCCarry:
        """Return h = 0."""
        return BRCCarry(zeros(batch_shape, self.features, self.param_dtype))

    def project(self, ready: BRCParams, x: Array) -> tuple[Array, ...]:
        """Return `U_a x + b_a`, `U_c x + b_c` and `U x`.

        Raises:
            ValueError: x has not the D features that the parameters were made for.
        """
        return *Gated.project(self, ready, x), matmul(x, ready.candidate_kernel, self.dtype)

    def elementwise(self, ready: BRCParams) -> BRCParams:
        """Return no parameters: `gates` takes none."""
        return BRCParams(None, None, None, None)

    def gates(
        self, params: Any, carry: BRCCarry, u: tuple[Array, ...], v: tuple[Array, ...]
    ) -> BRCCarry:
        """Return the next h."""
        del params
        a, c = name(1 + jnp.tanh(u[0] + v[0]), "a"), name(sigmoid(u[1] + v[1]), "c")
        return BRCCarry(c * carry.h + (1 - c) * jnp.tanh(u[2] + a * carry.h))

    def with_candidate(self, params: GatedParams, key: Array) -> BRCParams:
        """Return the parameters with U drawn beside those of the gates."""
        shape = params.input_kernel.shape[0], self.features
        apart = jax.random.fold_in(key, 3)  # init_blocks takes 0, 1 and 2, which split returns
        return BRCParams(*params, self.candidate_kernel_init(apart, shape, self.param_dtype))


@dataclasses.dataclass(frozen=True, kw_only=True)
class BRC(_Bistable):
    """a = 1 + tanh(U_a x + w_a * h + b_a);  c = s(U_c x + w_c * h + b_c);
    h' = c h + (1 - c) tanh(U x + a h).

    Units are connected to themselves only. A unit remembers because its feedback a, which lies
    between 0 and 2, can make it bistable: with x = 0 and fixed a, the stable states solve
    h = tanh(a h), which are h = 0 alone if a <= 1, and two others of opposite sign if a > 1. The
    slope of the step at h = 0 is c + (1 - c) a. So there the gradient grows as (c + (1 - c) a)^k
    over k steps if a > 1, while it decays at both stable states.

    Parameters: `input_kernel [D, 2H]` (U_a, U_c), `recurrent_kernel [2H]` (w_a, w_c), `bias [2H]`,
    gate blocks in the order a, c, and `candidate_kernel [D, H]`, which is U.
    Source: Vecoven, Ernst, Drion 2021, "A bio-inspired bistable recurrent cell allows for
    long-lasting memory", arXiv:2006.05252, section 4. The biases are those of the authors' code;
    the candidate has none, so that the two states are symmetric.

    Args:
        recurrent_kernel_init: initialiser of w_a and w_c, called for one `[1, H]` block, or a tuple
            of two; the default, ones, is that of the authors' code.
        candidate_kernel_init: initialiser of U `[D, H]`.
    """

    init_only = *INITIALISERS, "candidate_kernel_init"

    recurrent_kernel_init: Initializer | tuple[Initializer, ...] = jax.nn.initializers.ones

    def init(self, key: Array, input_size: int) -> BRCParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        params = self.init_blocks(key, input_size, recurrent_size=1)
        diagonal = params._replace(recurrent_kernel=params.recurrent_kernel[0])
        return self.with_candidate(diagonal, key)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NBRC(_Bistable):
    """a = 1 + tanh(U_a x + W_a h + b_a);  c = s(U_c x + W_c h + b_c);
    h' = c h + (1 - c) tanh(U x + a h).

    A `BRC` whose gates see the states of all units ("neuromodulation"), while the candidate of a
    unit sees its own state only. So the gradient passes from one unit to another through the gates
    alone; within a unit the slope of the step at h = 0 is c + (1 - c) a where a and c are constant.

    Parameters: `input_kernel [D, 2H]` (U_a, U_c), `recurrent_kernel [H, 2H]` (W_a, W_c),
    `bias [2H]`, gate blocks in the order a, c, and `candidate_kernel [D, H]`, which is U.
    Source: as for `BRC`.

    Args:
        candidate_kernel_init: initialiser of U `[D, H]`.
    """

    init_only = *INITIALISERS, "candidate_kernel_init"

    def init(self, key: Array, input_size: int) -> BRCParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        return self.with_candidate(self.init_blocks(key, input_size), key)
