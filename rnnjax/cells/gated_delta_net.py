"""Gated DeltaNet: the delta rule on a matrix that also decays as a whole."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name as name
from jax.nn import softplus
from jaxtyping import Array

from rnnjax.cells.base import in_types_of
from rnnjax.cells.delta_net import DeltaNetCarry, DeltaNetInput, DeltaRule, corrected
from rnnjax.cells.kernels import matmul


class GatedDeltaNetParams(NamedTuple):
    """Parameters of a Gated DeltaNet, the N heads side by side."""

    query_kernel: Any  # [D, N*K]
    key_kernel: Any  # [D, N*K]
    value_kernel: Any  # [D, H]
    beta_kernel: Any  # [D, N]
    beta_bias: Any  # [N]
    alpha_kernel: Any  # [D, N]
    dt_bias: Any  # [N]
    a_log: Any  # [N], ln A


@dataclasses.dataclass(frozen=True)
class GatedDeltaNet(DeltaRule):
    """S' = alpha S (I - beta k k^T) + beta v k^T;  y = S' q, in each head;
    alpha = exp(-A softplus(W_a x + dt)), A = exp(a_log), and q, k, v, beta as in `DeltaNet`.

    The Jacobian is alpha (I - beta k k^T) on each row of S: across the key k the gradient has the
    factor alpha, along it alpha (1 - beta). So a head can forget one key (by beta) or everything at
    once (by alpha); a `DeltaNet` can only do the first, a decaying state only the second.

    The carry has q beside S, as in `DeltaNet`: a redundant state, whose Lyapunov exponents are
    -inf. Parameters: those of `DeltaNet`, `alpha_kernel [D, N]` (W_a), `dt_bias [N]` and
    `a_log [N]`. At initialisation A = U(0, 16], and dt_bias is such that softplus(dt_bias) is
    log-uniform in [0.001, 0.1], so alpha begins between 0.2 and 1 where W_a x = 0.
    Source: Yang, Kautz, Hatamizadeh 2024, "Gated delta networks: improving Mamba2 with delta rule",
    arXiv:2412.06464, equation 10; alpha and its initialisation are those of Mamba-2, as in the
    authors' code (NVlabs/GatedDeltaNet), where beta is at most 1. Short convolutions and the norm
    and the gate of the outputs belong to a layer.

    Args:
        features, num_heads, key_size, max_beta, activation_fn, kernel_init, dtype, param_dtype:
            as in `DeltaNet`.

    Raises:
        ValueError: as in `DeltaNet`.
    """

    init_only = ("kernel_init",)

    def init(self, key: Array, input_size: int) -> GatedDeltaNetParams:
        """Draw the parameters for inputs `[*batch, input_size]`."""
        delta = self.init_delta(key, input_size)
        keys = (jax.random.fold_in(key, i) for i in (4, 5, 6))  # split returns 0 to 3
        shape = input_size, self.num_heads
        alpha = self.kernel_init(next(keys), shape, self.param_dtype)
        uniform = (jax.random.uniform(k, shape[1:]) for k in keys)
        a = 16 * (1 - next(uniform))  # never 0
        dt = jnp.exp(math.log(1e-3) + (math.log(0.1) - math.log(1e-3)) * next(uniform))
        dt_bias = dt + jnp.log(-jnp.expm1(-dt))  # the inverse of softplus
        bias, a_log = (leaf.astype(self.param_dtype) for leaf in (dt_bias, jnp.log(a)))
        return GatedDeltaNetParams(*delta, alpha, bias, a_log)

    def project(self, ready: GatedDeltaNetParams, x: Array) -> tuple[DeltaNetInput, Array]:
        """Return q, k, v and beta, and alpha."""
        u = self.project_delta(ready, x)
        dt = softplus(matmul(x, ready.alpha_kernel, self.dtype) + ready.dt_bias)
        return u, jnp.exp(-jnp.exp(ready.a_log) * dt)

    def step(
        self, ready: GatedDeltaNetParams, carry: DeltaNetCarry, u: tuple[DeltaNetInput, Array]
    ) -> DeltaNetCarry:
        """Return the next S, and q."""
        del ready
        delta, alpha = u
        decayed = name(alpha, "alpha")[..., None, None] * carry.S
        return in_types_of(carry, DeltaNetCarry(corrected(decayed, delta), delta.q))
