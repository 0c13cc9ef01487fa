"""Initialisers, as `rnnjax.initializers`: hashable values, so that a cell that has one is, too.

Each is a frozen dataclass called as `init(key, shape, dtype)`, like those of
`jax.nn.initializers`, which work in their place. A gated cell calls it once for every gate, with
the shape of that gate's block, `[rows, H]`. Its number may be traced, in a cell that only draws
parameters (see `Gated`).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

Initializer = Callable[..., Array]  # (key, shape, dtype) -> array, as in jax.nn.initializers


@dataclasses.dataclass(frozen=True)
class Orthogonal:
    """`gain * Q` with Q a random orthogonal matrix (Haar), so every singular value is `gain`.

    Source: Saxe, McClelland, Ganguli 2014, "Exact solutions to the nonlinear dynamics of learning
    in deep linear neural networks", section 3.
    """

    gain: float | int | Array = 1.0

    def __call__(self, key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        wide = jnp.promote_types(dtype, jnp.float32)  # no QR factorisation in 16 bits
        return jax.nn.initializers.orthogonal(self.gain)(key, shape, wide).astype(dtype)


@dataclasses.dataclass(frozen=True)
class Identity:
    """`gain * I` (ones on the main diagonal, if the block is not square).

    Source: Le, Jaitly, Hinton 2015, "A simple way to initialize recurrent networks of rectified
    linear units", section 3.
    """

    gain: float | int | Array = 1.0

    def __call__(self, key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        del key
        return self.gain * jnp.eye(*shape, dtype=dtype)


@dataclasses.dataclass(frozen=True)
class Gaussian:
    """Independent entries N(0, gain^2 / rows): `rows` is D for an input block, H for a recurrent.

    A square block then has spectral radius near `gain` (the circular law).
    Source: Sompolinsky, Crisanti, Sommers 1988, "Chaos in random neural networks".
    """

    gain: float | int | Array = 1.0

    def __call__(self, key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        return self.gain / math.sqrt(shape[0]) * jax.random.normal(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class SpectralRadius:
    """A Gaussian matrix rescaled so that its largest eigenvalue has modulus `radius`.

    `nonzeros` entries in every column (the weights into one unit, under `h @ U`) are kept and the
    others are zero; None keeps all. The modulus is Gelfand's limit ||A^k||^(1/k) at k = 2^40, by
    repeated squaring, which needs no eigenvalue solver and so runs on every device.
    Source: Pascanu, Mikolov, Bengio 2013, "On the difficulty of training recurrent neural
    networks", section 4 ("smart tanh": 15 nonzeros, radius .95).
    """

    radius: float | int | Array = 0.95
    nonzeros: int | None = None

    def __post_init__(self):
        if self.nonzeros is not None and self.nonzeros < 1:
            raise ValueError(f"nonzeros must be at least 1 or None, got {self.nonzeros}")

    def __call__(self, key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        rows, columns = shape
        if rows != columns:
            raise ValueError(f"SpectralRadius needs a square block, got {rows} x {columns}")
        value_key, place_key = jax.random.split(key)
        wide = jnp.promote_types(dtype, jnp.float32)
        matrix = jax.random.normal(value_key, shape, wide) / math.sqrt(rows)
        if self.nonzeros is not None:
            ranks = jnp.argsort(jnp.argsort(jax.random.uniform(place_key, shape), axis=0), axis=0)
            matrix = jnp.where(ranks < self.nonzeros, matrix, 0)
        return (self.radius / spectral_radius(matrix) * matrix).astype(dtype)


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Independent entries U[-bound, bound]; None means 1 / sqrt(columns), PyTorch's 1 / sqrt(H)."""

    bound: float | int | Array | None = None

    def __call__(self, key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        bound = 1 / math.sqrt(shape[-1]) if self.bound is None else self.bound
        return bound * jax.random.uniform(key, shape, dtype, -1, 1)


@dataclasses.dataclass(frozen=True)
class Chrono:
    """`ln U[1, t_max - 1]`: forget biases that spread the memory of the units over 1..t_max steps.

    As `LSTM(forget_bias=Chrono(t_max))` it also sets the input gate's bias to its negative.
    Source: Tallec & Ollivier 2018, "Can recurrent neural networks warp time?", equation 16.
    """

    t_max: float | int | Array

    def __post_init__(self):
        if isinstance(self.t_max, (float, int)) and not self.t_max > 2:
            raise ValueError(f"t_max must be greater than 2, got {self.t_max}")

    def __call__(self, key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        return jnp.log(jax.random.uniform(key, shape, dtype, 1, self.t_max - 1))


@dataclasses.dataclass(frozen=True)
class UniformGate:
    """The logit of U[1/H, 1 - 1/H]: biases with which a gate's values are spread evenly over 0..1.

    H is the number of columns. With one or two of them the range is a point, and the bias zero.
    Source: Gu et al. 2020, "Improving the gating mechanism of recurrent neural networks",
    arXiv:1910.09890 (uniform gate initialisation).
    """

    def __call__(self, key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        low = 1 / max(2, shape[-1])
        u = jax.random.uniform(key, shape, dtype, low, 1 - low)
        return jnp.log(u) - jnp.log1p(-u)


@dataclasses.dataclass(frozen=True)
class Rotations:
    """The raw kernel A of an `OrthogonalRNN` whose U = expm(A - A^T) rotates planes by U[-pi, pi].

    `[H, H]`: A[2i, 2i+1] is the angle of coordinates 2i and 2i+1, and the other entries are zero.
    `[H/2, H]`, of a unitary kernel: the imaginary part is diagonal, half the angle that turns each
    complex number. The Cayley transform turns by 2 arctan(angle) instead.
    Source: Henaff, Szlam, LeCun 2016, "Recurrent orthogonal networks and long-memory tasks",
    arXiv:1602.06662; as used by Lezcano-Casado, Martinez-Rubio 2019, arXiv:1901.08428.
    """

    def __call__(self, key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        return _rotations(jax.random.uniform(key, _planes(shape), dtype, -math.pi, math.pi), shape)


@dataclasses.dataclass(frozen=True)
class CayleyRotations:
    """`Rotations` with entries -tan(angle / 2), angles U[0, pi/2]: what the Cayley transform turns.

    Source: Helfrich, Willmott, Ye 2018, "Orthogonal recurrent neural networks with scaled Cayley
    transform", arXiv:1707.09520; as used with expm, too, by Lezcano-Casado,
    Martinez-Rubio 2019, arXiv:1901.08428.
    """

    def __call__(self, key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        angles = jax.random.uniform(key, _planes(shape), dtype, 0, math.pi / 2)
        return _rotations(-jnp.tan(angles / 2), shape)


def _planes(shape):
    """Return the shape of the angles: one for each pair of coordinates, or complex number."""
    rows, columns = shape
    if columns not in (rows, 2 * rows):
        raise ValueError(f"rotations need a block [H, H] or [H/2, H], got {rows} x {columns}")
    return (rows // 2 if columns == rows else rows,)


def _rotations(angles, shape):
    kernel, first = jnp.zeros(shape, angles.dtype), jnp.arange(len(angles))
    if shape[0] == shape[1]:
        return kernel.at[2 * first, 2 * first + 1].set(angles)
    return kernel.at[first, shape[0] + first].set(angles / 2)


@dataclasses.dataclass(frozen=True)
class Linspace:
    """Numbers at equal distances from `start` to `stop` along the last axis, nothing random."""

    start: float | int | Array
    stop: float | int | Array

    def __call__(self, key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        del key
        numbers = jnp.linspace(self.start, self.stop, shape[-1], dtype=dtype)
        return jnp.broadcast_to(numbers, shape)


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """exp(U[ln low, ln high]): positive numbers, such as time constants, over orders of magnitude.

    Raises:
        ValueError: not 0 < low <= high.
    """

    low: float | int | Array
    high: float | int | Array

    def __post_init__(self):
        fixed = isinstance(self.low, (float, int)) and isinstance(self.high, (float, int))
        if fixed and not 0 < self.low <= self.high:
            raise ValueError(f"0 < low <= high must hold, got low = {self.low}, high = {self.high}")

    def __call__(self, key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        low, high = jnp.log(self.low), jnp.log(self.high)
        return jnp.exp(jax.random.uniform(key, shape, dtype, low, high))


@dataclasses.dataclass(frozen=True)
class Fused:
    """Draw the blocks of all G gates as one `[rows, G*H]` matrix from `init`.

    It exists to reproduce libraries that do so. Beware: a block of one wide orthogonal draw has a
    spectral radius near 0.5 to 0.6, not 1, which alone shrinks a gradient by orders of magnitude.
    """

    init: Any

    def __call__(self, key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        return self.init(key, shape, dtype)


def blocks(init: Any, key: Array, shape: Sequence[int], gates: int, dtype: Any) -> Array:
    """Draw `gates` blocks of `shape` side by side: `[*shape[:-1], gates * shape[-1]]`.

    One key for each gate; a tuple gives every gate its own initialiser; `Fused` makes one draw.
    """
    if isinstance(init, Fused):
        return init(key, (*shape[:-1], gates * shape[-1]), dtype)
    inits = init if isinstance(init, tuple) else (init,) * gates
    keys = jax.random.split(key, gates)
    drawn = [f(k, shape, dtype) for f, k in zip(inits, keys, strict=True)]
    return jnp.concatenate(drawn, axis=-1)


def draw(value: Any, key: Array, shape: Sequence[int], dtype: Any) -> Array:
    """Return `value(key, shape, dtype)` of an initialiser, or an array filled with a number."""
    init: Any = value if callable(value) else jax.nn.initializers.constant(value)
    return init(key, shape, dtype)


def spectral_radius(matrix: Array) -> Array:
    """Return the largest modulus of the eigenvalues: ||A^k||^(1/k) with k = 2^40 (Gelfand 1941)."""

    def square(_, state):  # log ||A^k|| / k, with k doubling and A^k kept at unit norm
        power, log_radius, one_over_k = state
        norm = jnp.linalg.norm(power)
        power = power / norm
        return power @ power, log_radius + one_over_k * jnp.log(norm), one_over_k / 2

    start = matrix, jnp.zeros((), matrix.dtype), jnp.ones((), matrix.dtype)
    _, log_radius, _ = jax.lax.fori_loop(0, 41, square, start)
    return jnp.exp(log_radius)
