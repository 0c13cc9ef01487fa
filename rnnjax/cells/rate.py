"""The rate network: leaky units with a time constant, noise, and a time step that may vary."""

import dataclasses
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Inexact

from rnnjax.cells.base import Noisy, Stochastic, check_positive, zeros
from rnnjax.cells.gated import INITIALISERS, Gated
from rnnjax.cells.initializers import Initializer, LogUniform, draw


class TimedInputs(NamedTuple):
    """Inputs at irregular times."""

    value: Any  # [*batch, D]
    dt: Any  # [*batch, 1], the time that the step takes, at least 0


class RateParams(NamedTuple):
    """Parameters of a rate network."""

    input_kernel: Any  # [D, H]
    recurrent_kernel: Any  # [H, H], rows are presynaptic units
    bias: Any  # [H]
    raw_tau: Any  # [H], ln(tau / dt - 1) of learned time constants; None if they are fixed


class RateReady(NamedTuple):
    """Effective parameters of a rate network."""

    input_kernel: Any  # [D, H]
    recurrent_kernel: Any  # [H, H]
    bias: Any  # [H]
    alpha: Any  # [H], dt / tau if learned, else None
    log_leak: Any  # [H], ln(1 - alpha) if learned, else None


class RateCarry(NamedTuple):
    """The state of a rate network."""

    x: Any  # [*batch, H], before phi: the rates are phi(x)


class _Now(NamedTuple):
    """What a step has of its own."""

    alpha: Any  # [*batch, H] or [*batch, 1], None if the step takes the time dt
    noise: Any  # [*batch, H] or None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rate(Gated, Stochastic):
    """x' = (1 - alpha) x + alpha (W phi(x) + W_in u + b) + sqrt(2 alpha) sigma xi,

        alpha = dt / tau,   xi ~ N(0, 1),   r = phi(x)

    Euler steps of the stochastic equation tau dx/dt = -x + W r + W_in u + b + sqrt(2 tau) sigma xi.
    The leak is a path of slope 1 - alpha through every unit, whatever the weights are.
    The state is x, and the output is the rate r = phi(x). The leak acts on x, before phi: in the
    other common form, r' = (1 - alpha) r + alpha phi(W r + W_in u + b), it acts on the rates. With
    alpha = 1 and no noise r is h of `Elman`, h' = phi(W h + W_in u + b), if r_0 = h_0.

    States are row vectors, so W is the transpose of `recurrent_kernel [H, H]`: its entry (j, i) is
    the weight from unit j to unit i, and its rows are presynaptic units. Parameters:
    `input_kernel [D, H]`, `recurrent_kernel [H, H]`, `bias [H]`, and `raw_tau [H]` where tau is
    learned, tau = dt (1 + exp(raw_tau)), so that 0 < alpha < 1 whatever the optimiser does.

    `with_noise` draws xi. Plain inputs, and all inputs if sigma = 0, have none.

    With `TimedInputs(value, dt)` a step takes its own time dt_t, and alpha is

        alpha_t = 1 - (1 - alpha)^(dt_t / dt),

    which is alpha for dt_t = dt, and lies in 0..1 however long a gap is, as dt_t / tau does not. A
    step of k dt then equals k steps of dt in which W r + W_in u + b stays the same, and its noise
    has the variance that theirs adds up to, 2 alpha_t (2 - alpha_t) / (2 - alpha) sigma^2. For
    small dt / tau, alpha_t is 1 - exp(-dt_t / tau). A step of no time leaves x unchanged.

    For masks, Dale's law, frozen and low-rank weights see `Constrained`. `LayerNorm` around this
    cell takes plain inputs only.
    Source: Song, Yang, Wang 2016, "Training excitatory-inhibitory recurrent neural networks for
    cognitive tasks: a simple and flexible framework", PLOS Computational Biology 12.
    Yang, Joglekar, Song, Newsome, Wang 2019, "Task representations in neural networks trained to
    perform many cognitive tasks", Nature Neuroscience 22, has the leak on rates and the noise
    inside phi.

    Args:
        dt: the time step, in the unit of tau; the defaults of both are milliseconds, alpha = 0.2.
        tau: the time constant, at least dt: a number; a tuple of H numbers, one for each unit; or
            an initialiser such as `initializers.LogUniform(20, 500)`, from which `init` draws them
            as parameters that are learned.
        sigma: the standard deviation of the noise of the continuous equation: a unit without
            input has the variance sigma^2 / (1 - alpha / 2).
        activation_fn: phi, any elementwise function.

    Raises:
        ValueError: `dt` is not positive, a `tau` is below dt or infinite, there are not H of them,
            `sigma` is negative, or as in `Gated`; (from `init`) a drawn tau is not above dt.
    """

    gate_names = ("x",)
    init_only = INITIALISERS

    dt: float | int = 20.0
    tau: float | int | tuple[float | int, ...] | Initializer = 100.0
    sigma: float | int = 0.0
    activation_fn: Callable[[Array], Array] = jnp.tanh

    def __post_init__(self):
        Gated.__post_init__(self)
        check_positive("dt", self.dt)
        if not 0 <= self.sigma < math.inf:
            raise ValueError(f"sigma must be a number that is at least 0, got {self.sigma!r}")
        given: Any = self.tau
        if callable(given):
            return
        if isinstance(given, numbers.Real):
            given = (given,) * self.features
        if not (isinstance(given, tuple) and len(given) == self.features):
            raise ValueError(
                f"tau must be a number, a tuple of features = {self.features} numbers or an "
                f"initialiser, got {given!r}"
            )
        for tau in given:
            if not self.dt <= tau < math.inf:
                raise ValueError(
                    f"tau must be finite and at least dt = {self.dt!r}, so that "
                    f"0 < alpha = dt / tau <= 1; got {tau!r}"
                )

    def without_initialisers(self) -> "Rate":
        """Return the cell under which `rnnjax.unroll` caches its program."""
        cell: Any = Gated.without_initialisers(self)
        learned = LogUniform(2 * self.dt, 10 * self.dt)
        return dataclasses.replace(cell, tau=learned) if callable(self.tau) else cell

    def init(self, key: Array, input_size: Any) -> RateParams:
        """Draw the parameters for inputs `[*batch, input_size]`, or `TimedInputs` of such sizes."""
        size = input_size
        if isinstance(input_size, TimedInputs):
            size = input_size.value
            if input_size.dt != 1:
                raise ValueError(f"dt must have shape [T, *batch, 1], got {input_size.dt} features")
        params = self.init_blocks(key, size)
        if not callable(self.tau):
            return RateParams(*params, None)
        tau_key = jax.random.fold_in(key, 3)
        tau = draw(self.tau, tau_key, (self.features,), self.param_dtype)
        if not isinstance(tau, Tracer) and not (tau > self.dt).all():
            raise ValueError(
                f"a learned tau must be greater than dt = {self.dt!r}, so that alpha = dt / tau is "
                f"below 1; the initialiser drew {float(tau.min())!r}"
            )
        return RateParams(*params, jnp.log(tau / self.dt - 1))

    def prepare(self, params: RateParams) -> RateReady:
        """Return the parameters with alpha in place of learned time constants."""
        kernel, recurrent_kernel, bias, raw = params
        alpha = None if raw is None else jax.nn.sigmoid(-raw)
        log_leak = None if raw is None else jax.nn.log_sigmoid(raw)
        return RateReady(kernel, recurrent_kernel, bias, alpha, log_leak)

    def time_constants(self, params: RateParams) -> Inexact[Array, " H"]:
        """Return tau of each unit, in the unit of dt."""
        if params.raw_tau is None:
            tau: Any = self.tau
            return jnp.broadcast_to(jnp.asarray(tau, self.param_dtype), (self.features,))
        return self.dt * (1 + jnp.exp(params.raw_tau))

    def initial_carry(self, batch_shape: Sequence[int]) -> RateCarry:
        """Return x = 0."""
        return RateCarry(zeros(batch_shape, self.features, self.param_dtype))

    def with_noise(self, key: Array, xs: Any) -> Noisy:
        """Draw xi for each unit and step."""
        if not self.sigma:
            return Noisy(xs, None)
        leading = jax.tree.leaves(xs)[0].shape[:-1]
        return Noisy(xs, jax.random.normal(key, (*leading, self.features), self.param_dtype))

    def project(self, ready: RateReady, x: Any) -> tuple[Any, ...]:
        """Return `u W_in + b`, and of timed or noisy inputs alpha_t and the noise beside it."""
        x, noise = x if isinstance(x, Noisy) else (x, None)
        timed = isinstance(x, TimedInputs)
        drive = Gated.project(self, ready, x.value if timed else x)
        if not timed and noise is None:
            return drive
        alpha = self._alpha(ready, drive[0].dtype)
        now = self._alpha_of(ready, alpha, x.dt) if timed else None
        if noise is not None:
            noise = self.sigma * _noise_scale(alpha, alpha if now is None else now) * noise
        return *drive, _Now(now, noise)

    def recurrent_input(self, carry: RateCarry, u: Any) -> Inexact[Array, "*batch K"]:
        """Return the rates phi(x), which W multiplies."""
        del u
        return self.activation_fn(carry.x)

    def elementwise(self, ready: RateReady) -> RateReady:
        """Return alpha, if it is learned."""
        return RateReady(None, None, None, ready.alpha, None)

    def gates(
        self, params: RateReady, carry: RateCarry, u: tuple[Any, ...], v: tuple[Array, ...]
    ) -> RateCarry:
        """Return the next x."""
        drive, now = u[0], u[1] if len(u) > 1 else _Now(None, None)
        alpha = self._alpha(params, carry.x.dtype) if now.alpha is None else now.alpha
        x = (1 - alpha) * carry.x + alpha * (drive + v[0])
        return RateCarry(x if now.noise is None else x + now.noise)

    def output(self, carry: RateCarry) -> Inexact[Array, "*batch H"]:
        """Return the rates phi(x)."""
        return self.activation_fn(carry.x)

    def _alpha(self, ready: RateReady, dtype: Any) -> Any:
        """Return dt / tau, a number or `[H]`."""
        tau: Any = self.tau
        if ready.alpha is not None:
            return ready.alpha
        if isinstance(tau, tuple):
            return jnp.asarray(self.dt / np.asarray(tau, float), dtype)
        return float(self.dt / tau)

    def _alpha_of(self, ready: RateReady, alpha: Any, dt: Array) -> Array:
        """Return alpha_t of a step that takes the time `dt [*batch, 1]`."""
        steps = dt / self.dt
        if ready.log_leak is None:
            return 1 - jnp.power(1 - jnp.asarray(alpha, steps.dtype), steps)
        return -jnp.expm1(steps * ready.log_leak)


def _noise_scale(alpha: Any, now: Any) -> Any:
    """Return the standard deviation of the noise of a step for sigma = 1.

    That of a step of no time is 0, with a slope of 0: padding leaves the gradient finite.
    """
    square = jnp.asarray(2 * now * (2 - now) / (2 - alpha))
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
