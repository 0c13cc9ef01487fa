"""Cells that nobody registers, as an author writes them in a file of their own.

Together they use everything that the cell contract offers: effective parameters through `prepare`,
a recurrent input that is not h, block-diagonal and diagonal kernels, complex and integer leaves.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name as name
from jax.scipy.linalg import expm

from rnnjax import Cell, Elman, Gated
from rnnjax.cells import ElmanCarry, GatedParams


class CoRNNCarry(NamedTuple):
    y: Any  # [*batch, H], positions
    z: Any  # [*batch, H], velocities


@dataclasses.dataclass(frozen=True, kw_only=True)
class CoRNN(Gated):
    """z' = z + dt (tanh([y, z] U + V x + b) - gamma y - epsilon z),   y' = y + dt z'.

    Coupled oscillators: the product is with both halves of the carry, `U [2H, H]`.
    Source: Rusch, Mishra 2021, "Coupled oscillatory recurrent neural network", arXiv:2010.00951,
    equation 3.
    """

    gate_names = ("z",)

    dt: float = 0.1
    gamma: float = 2.0
    epsilon: float = 3.0

    def init(self, key, input_size):
        params = self.init_blocks(key, input_size)
        both = jnp.concatenate([params.recurrent_kernel, params.recurrent_kernel.T])
        return params._replace(recurrent_kernel=both)

    def initial_carry(self, batch_shape):
        still = jnp.zeros((*batch_shape, self.features), self.param_dtype)
        return CoRNNCarry(still, still)

    def recurrent_input(self, carry, u):
        return jnp.concatenate([carry.y, carry.z], axis=-1)

    def gates(self, params, carry, u, v):
        force = jnp.tanh(u[0] + v[0]) - self.gamma * carry.y - self.epsilon * carry.z
        z = carry.z + self.dt * force
        return CoRNNCarry(carry.y + self.dt * z, z)

    def output(self, carry):
        return carry.y


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExpRNN(Elman):
    """h' = phi(W x + U h + b),   U = expm(A - A^T), which is orthogonal.

    Source: Lezcano-Casado, Martinez-Rubio 2019, "Cheap orthogonal constraints in neural networks",
    arXiv:1901.08428, section 3.
    """

    def prepare(self, params):
        raw = params.recurrent_kernel
        return params._replace(recurrent_kernel=expm(raw - raw.T))


class LRUParams(NamedTuple):
    log_decay: Any  # [H], nu
    log_phase: Any  # [H], theta
    real_kernel: Any  # [D, H]
    imaginary_kernel: Any  # [D, H]


class LRUReady(NamedTuple):
    eigenvalues: Any  # complex [H]
    kernel: Any  # complex [D, H], times sqrt(1 - |eigenvalue|^2)


class LRUCarry(NamedTuple):
    state: Any  # complex [*batch, H]


@dataclasses.dataclass(frozen=True)
class LRU(Cell):
    """s' = lambda * s + sqrt(1 - |lambda|^2) x B,   lambda = exp(-exp(nu) + i exp(theta)).

    A complex diagonal state, read out as (Re s, Im s), so `output_size` is 2H.
    Source: Orvieto et al. 2023, "Resurrecting recurrent neural networks for long sequences",
    arXiv:2303.06349, equation 5 and section 3.4.
    """

    features: int

    def init(self, key, input_size):
        keys = jax.random.split(key, 4)
        modulus = jax.random.uniform(keys[0], (self.features,), minval=0.4, maxval=0.9)
        phase = jax.random.uniform(keys[1], (self.features,), minval=0.1, maxval=3.0)
        shape = input_size, self.features
        kernels = (jax.random.normal(k, shape) / (2 * input_size) ** 0.5 for k in keys[2:])
        return LRUParams(jnp.log(-jnp.log(modulus)), jnp.log(phase), *kernels)

    def prepare(self, params):
        eigenvalues = jnp.exp(-jnp.exp(params.log_decay) + 1j * jnp.exp(params.log_phase))
        scale = jnp.sqrt(1 - jnp.abs(eigenvalues) ** 2)
        kernel = scale * (params.real_kernel + 1j * params.imaginary_kernel)
        return LRUReady(eigenvalues, kernel)

    def initial_carry(self, batch_shape):
        return LRUCarry(jnp.zeros((*batch_shape, self.features), jnp.complex64))

    def project(self, ready, x):
        return x.astype(ready.kernel.dtype) @ ready.kernel

    def step(self, ready, carry, u):
        return LRUCarry(ready.eigenvalues * carry.state + u)

    def output(self, carry):
        return jnp.concatenate([carry.state.real, carry.state.imag], axis=-1)


class SLSTMCarry(NamedTuple):
    c: Any  # [*batch, H]
    n: Any  # the normaliser
    m: Any  # the stabiliser
    h: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class SLSTM(Gated):
    """c' = f c + i z,   n' = f n + i,   h' = o c' / n',   (i, f, z, o) = W x + U h + b,

    with exponential gates i = exp(.), f = exp(.), each divided by exp(m'),
    m' = max(ln f + m, ln i), and a block-diagonal U: one dense block in each head.
    Source: Beck et al. 2024, "xLSTM: extended long short-term memory", arXiv:2405.04517,
    equations 8-17.
    """

    gate_names = ("i", "f", "z", "o")

    heads: int = 2

    def init(self, key, input_size):
        params = self.init_blocks(key, input_size)
        size = self.features // self.heads
        shape = self.heads, size, len(self.gate_names) * size
        kernel = jax.random.normal(key, shape, self.param_dtype) / size**0.5
        return params._replace(recurrent_kernel=kernel)

    def initial_carry(self, batch_shape):
        zeros = jnp.zeros((*batch_shape, self.features), self.param_dtype)
        return SLSTMCarry(zeros, zeros + 1, zeros, zeros)

    def gates(self, params, carry, u, v):
        i, f, z, o = (a + b for a, b in zip(u, v, strict=True))
        m = jnp.maximum(f + carry.m, i)
        i, f = jnp.exp(i - m), jnp.exp(f + carry.m - m)
        c, n = f * carry.c + i * jnp.tanh(z), f * carry.n + i
        return SLSTMCarry(c, n, m, name(jax.nn.sigmoid(o), "o") * c / n)


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndRNN(Gated):
    """h' = tanh(W x + u * h + b): every unit sees only itself, `recurrent_kernel [H]`.

    Source: Li et al. 2018, "Independently recurrent neural network", arXiv:1803.04831, equation 2
    (there with a ReLU).
    """

    gate_names = ("h",)

    def init(self, key, input_size):
        params = self.init_blocks(key, input_size)
        u = jax.random.uniform(key, (self.features,), self.param_dtype, -1, 1)
        return params._replace(recurrent_kernel=u)

    def initial_carry(self, batch_shape):
        return ElmanCarry(jnp.zeros((*batch_shape, self.features), self.param_dtype))

    def gates(self, params, carry, u, v):
        return ElmanCarry(jnp.tanh(u[0] + v[0]))


class LeakParams(NamedTuple):
    input_kernel: Any
    recurrent_kernel: Any
    bias: Any
    leak: Any  # a single number
    shift: Any  # [H]


class CountingCarry(NamedTuple):
    count: Any  # an integer: how many steps it has seen
    h: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaky(Gated):
    """h' = (1 - a) h + a tanh(W x + U h + b + d),   a = s(leak), one number for all units."""

    gate_names = ("h",)

    def init(self, key, input_size):
        blocks = self.init_blocks(key, input_size)
        return LeakParams(*blocks, jnp.zeros(()), jnp.full(self.features, 0.1))

    def initial_carry(self, batch_shape):
        return ElmanCarry(jnp.zeros((*batch_shape, self.features), self.param_dtype))

    def gates(self, params, carry, u, v):
        a = jax.nn.sigmoid(params.leak)
        return ElmanCarry((1 - a) * carry.h + a * jnp.tanh(u[0] + v[0] + params.shift))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counting(Gated):
    """An Elman network with a step counter, an integer, in its carry; it takes the plain path."""

    gate_names = ("h",)

    def init(self, key, input_size):
        return GatedParams(*self.init_blocks(key, input_size))

    def initial_carry(self, batch_shape):
        h = jnp.zeros((*batch_shape, self.features), self.param_dtype)
        return CountingCarry(jnp.zeros(batch_shape, jnp.int32), h)

    def gates(self, params, carry, u, v):
        phase = jnp.cos(carry.count)[..., None].astype(carry.h.dtype)
        return CountingCarry(carry.count + 1, jnp.tanh(u[0] + phase * v[0]))


D, H = 3, 6
GATED = {
    "coRNN": CoRNN(H),
    "expRNN": ExpRNN(H),
    "sLSTM": SLSTM(H),
    "IndRNN": IndRNN(H),
    "leaky": Leaky(H),
}
CELLS: dict[str, Any] = GATED | {"LRU": LRU(H), "counting": Counting(H)}
