"""Cells that nobody registers, as an author writes them in a file of their own.

Together they use everything that the cell contract offers: effective parameters through `prepare`,
a recurrent input that is not h, block-diagonal and diagonal kernels, complex and integer leaves,
inputs that are a pytree, parameters of any shape, and spikes with surrogate slopes.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name as name
from jax.scipy.linalg import expm

from rnnjax import LSTM, Cell, Elman, Gated
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


class OddParams(NamedTuple):
    input_kernel: Any
    recurrent_kernel: Any
    bias: Any
    scalar: Any  # []
    single: Any  # [1]
    pair: Any  # [2, H]
    vector: Any  # [H], of which single entries are used
    column: Any  # [H, 1]


class OddReady(NamedTuple):
    input_kernel: Any
    recurrent_kernel: Any
    bias: Any
    raw: Any
    index: Any  # an integer
    mask: Any  # booleans [H]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Odd(LSTM):
    """Parameters of every shape, used in other ways than feature by feature, and constants."""

    def init(self, key, input_size):
        blocks = LSTM.init(self, key, input_size)
        shapes = (), (1,), (2, self.features), (self.features,), (self.features, 1)
        return OddParams(*blocks, *(jnp.full(shape, 0.5, self.param_dtype) for shape in shapes))

    def prepare(self, params):
        mask = jnp.arange(self.features) % 3 > 0
        return OddReady(*params[:3], params, jnp.array(1), mask)

    def gates(self, params, carry, u, v):
        new, raw = LSTM.gates(self, params, carry, u, v), params.raw
        h = new.h * jax.nn.sigmoid(1.0 * raw.scalar) + raw.single + raw.pair[0] * new.c
        h = h + raw.vector[0] * raw.pair[params.index] + raw.column[:, 0]
        return new._replace(h=jnp.where(params.mask, jnp.tanh(h), h / 2) * raw.vector[::-1].sum())


class TimedInputs(NamedTuple):
    value: Any  # [*batch, D]
    interval: Any  # [*batch, 1], the time since the last value


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timed(Gated):
    """h' = k h + (1 - k) tanh(W x + U h + b), k = exp(-d^2), d the time since the last input."""

    gate_names = ("h",)

    def init(self, key, input_size):
        return GatedParams(*self.init_blocks(key, input_size.value))

    def initial_carry(self, batch_shape):
        return ElmanCarry(jnp.zeros((*batch_shape, self.features), self.param_dtype))

    def project(self, ready, x):
        return *Gated.project(self, ready, x.value), jnp.exp(-(x.interval**2))

    def gates(self, params, carry, u, v):
        return ElmanCarry(u[1] * carry.h + (1 - u[1]) * jnp.tanh(u[0] + v[0]))


class GRUDParams(NamedTuple):
    kernel: Any  # [2D, 3H], of values and mask, gates r, z, n
    recurrent_kernel: Any  # [H, 3H]
    bias: Any  # [3H]
    decay_kernel: Any  # [D, H]
    decay_bias: Any  # [H]
    input_decay: Any  # [2, D], weight and bias
    mean: Any  # [D], of the values


class GRUDCarry(NamedTuple):
    h: Any  # [*batch, H]
    last: Any  # [*batch, D], the last values that were observed


@dataclasses.dataclass(frozen=True)
class GRUD(Cell):
    """GRU-D: values x, a mask m of those observed, and the time d since each was observed before.

        x^ = m x + (1 - m) (g x_last + (1 - g) x_mean),   g = exp(-max(0, w d + b))
        h' = GRU(x^, m, exp(-max(0, W d + b)) h),          the reset gate before the matmul

    Inputs are a dictionary of `value`, `mask` and `step`, `[*batch, D]` each.
    Source: Che et al. 2018, "Recurrent neural networks for multivariate time series with missing
    values", arXiv:1606.01865, equations 10-15.
    """

    features: int
    inputs: int

    def init(self, key, input_size):
        assert set(input_size.values()) == {self.inputs}
        keys, width = jax.random.split(key, 5), self.features
        shapes = (2 * self.inputs, 3 * width), (width, 3 * width), (3 * width,)
        shapes = *shapes, (self.inputs, width), (width,)
        drawn = (0.5 * jax.random.normal(k, shape) for k, shape in zip(keys, shapes, strict=True))
        return GRUDParams(*drawn, jnp.full((2, self.inputs), 0.3), jnp.full(self.inputs, 0.1))

    def initial_carry(self, batch_shape):
        zeros = jnp.zeros((*batch_shape, self.features), jnp.float32)
        return GRUDCarry(zeros, jnp.zeros((*batch_shape, self.inputs), jnp.float32))

    def project(self, ready, x):
        weight, bias = ready.input_decay
        decay = x["step"] @ ready.decay_kernel + ready.decay_bias
        keeps = (jnp.exp(-jax.nn.relu(a)) for a in (weight * x["step"] + bias, decay))
        return x["value"], x["mask"], *keeps

    def step(self, ready, carry, u):
        x, mask, keep, decay = u
        last = mask * x + (1 - mask) * carry.last
        filled = mask * x + (1 - mask) * (keep * carry.last + (1 - keep) * ready.mean)
        a = jnp.concatenate([filled, mask], axis=-1) @ ready.kernel + ready.bias
        h, (r, z, n) = decay * carry.h, jnp.split(a, 3, axis=-1)
        of_r, of_z, of_n = jnp.split(ready.recurrent_kernel, 3, axis=-1)
        r, z = jax.nn.sigmoid(r + h @ of_r), jax.nn.sigmoid(z + h @ of_z)
        new = (1 - z) * h + z * jnp.tanh(n + (r * h) @ of_n)
        return GRUDCarry(new.astype(carry.h.dtype), last.astype(carry.last.dtype))

    def output(self, carry):
        return carry.h


@jax.custom_jvp
def spike(x):
    """H(x), with the slope 1 / (1 + 10 |x|)^2 of a fast sigmoid."""
    return (x > 0).astype(x.dtype)


@spike.defjvp
def _spike_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return spike(x), dx / (1 + 10 * jnp.abs(x)) ** 2


@jax.custom_vjp
def spike_in_reverse(x):
    """The same, with a backward pass alone."""
    return (x > 0).astype(x.dtype)


spike_in_reverse.defvjp(
    lambda x: (spike_in_reverse(x), x), lambda x, g: (g / (1 + 10 * jnp.abs(x)) ** 2,)
)


class LIFCarry(NamedTuple):
    v: Any  # [*batch, H], membrane potentials
    s: Any  # [*batch, H], spikes: 0 or 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class LIF(Gated):
    """v' = a v (1 - s) + W x + U s + b,   s' = H(v' - 1): leaky integrate-and-fire neurons.

    Source: Neftci, Mostafa, Zenke 2019, "Surrogate gradient learning in spiking neural networks",
    IEEE Signal Processing Magazine 36, equations 4-5 (here with one time constant).
    """

    gate_names = ("v",)
    surrogate_gradient = True

    decay: float = 0.9
    spike: Any = spike

    def init(self, key, input_size):
        return GatedParams(*self.init_blocks(key, input_size))

    def initial_carry(self, batch_shape):
        zeros = jnp.zeros((*batch_shape, self.features), self.param_dtype)
        return LIFCarry(zeros, zeros)

    def recurrent_input(self, carry, u):
        return carry.s

    def gates(self, params, carry, u, v):
        potential = self.decay * carry.v * (1 - carry.s) + u[0] + v[0]
        return LIFCarry(potential, self.spike(potential - 1))

    def output(self, carry):
        return carry.s


class PlainLIF(LIF):
    """The same as a cell that is not gated."""

    def step(self, ready, carry, u):
        return Gated.step(self, ready, carry, u)


class RedundantRateCarry(NamedTuple):
    x: Any  # [*batch, H]
    r: Any  # [*batch, H], tanh(x): it follows from x


@dataclasses.dataclass(frozen=True)
class RedundantRate(Cell):
    """x' = (1 - a) x + a (U r + W x_in),   r' = tanh(x'): a carry with a redundant state."""

    features: int
    leak: float = 0.2

    def init(self, key, input_size):
        keys = jax.random.split(key)
        scale = 1.5 / self.features**0.5
        u = scale * jax.random.normal(keys[0], (self.features, self.features))
        return {"u": u, "w": jax.random.normal(keys[1], (input_size, self.features))}

    def initial_carry(self, batch_shape):
        zeros = jnp.zeros((*batch_shape, self.features), jnp.float32)
        return RedundantRateCarry(zeros, zeros)

    def project(self, ready, x):
        return x @ ready["w"]

    def step(self, ready, carry, u):
        x = (1 - self.leak) * carry.x + self.leak * (carry.r @ ready["u"] + u)
        x = x.astype(carry.x.dtype)
        return RedundantRateCarry(x, jnp.tanh(x))

    def output(self, carry):
        return carry.r


D, H = 3, 6
GATED = {
    "coRNN": CoRNN(H),
    "expRNN": ExpRNN(H),
    "sLSTM": SLSTM(H),
    "IndRNN": IndRNN(H),
    "leaky": Leaky(H),
    "odd": Odd(H),
}
CELLS: dict[str, Any] = GATED | {"LRU": LRU(H), "counting": Counting(H)}
