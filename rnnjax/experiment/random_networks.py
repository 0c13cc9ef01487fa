"""Lyapunov exponents of the autonomous random network of Sompolinsky, Crisanti and Sommers.

    x' = W tanh(x),   W ~ N(0, g^2 / N)

It contracts for a gain g < 1, where its exponents are ln |mu_i|, mu_i the eigenvalues of W, and is
chaotic for g > 1; as N grows its first Lyapunov exponent approaches `mean_field_exponent(g)`.

Source: Sompolinsky, Crisanti, Sommers 1988, "Chaos in random neural networks", Physical Review
Letters 61.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rnnjax import diagnostics, training
from rnnjax.cells import Cell


class RandomCarry(NamedTuple):
    """The state of `RandomNetwork`."""

    x: Any  # [*batch, N]


@dataclasses.dataclass(frozen=True)
class RandomNetwork(Cell):
    """x' = W tanh(x), which takes no input. The parameters are W^T, `[N, N]`.

    Args:
        features: N.
    """

    features: int

    def init(self, key: Array, input_size: int) -> Float[Array, "N N"]:
        """Draw W^T at gain 1."""
        del input_size
        shape = self.features, self.features
        return jax.random.normal(key, shape) / math.sqrt(self.features)

    def initial_carry(self, batch_shape: Sequence[int]) -> RandomCarry:
        """Return ones; zero is a fixed point."""
        return RandomCarry(jnp.ones((*batch_shape, self.features)))

    def project(self, ready: Any, x: Any) -> Any:
        """Return nothing."""
        del ready
        return x[..., :0]

    def step(self, ready: Any, carry: RandomCarry, u: Any) -> RandomCarry:
        """Return W tanh(x)."""
        del u
        return RandomCarry(jnp.tanh(carry.x) @ ready)

    def output(self, carry: RandomCarry) -> Any:
        """Return x."""
        return carry.x


@jax.enable_x64(True)
def spectra(
    members: Sequence[int], size: int, gain: float, num: int | None, transient: int, steps: int
) -> dict[str, np.ndarray]:
    """Return Lyapunov exponents of random networks, one for each seed, from random states.

    In float64: where tanh saturates, single steps shrink directions by more than float32 resolves.

    Args:
        members: the S seeds; the key of a seed is split into that of W and that of x_0.
        size: N.
        gain: g.
        num: how many exponents; None means all.
        transient: steps that are left out.
        steps: steps after them, over which exponents are averaged.

    Returns:
        `exponents` and their standard `errors`, each `[S, num]`, and `radius`, ln |mu_1| `[S]`, of
        the largest eigenvalue mu_1 of W.
    """
    cell = RandomNetwork(size)

    def measure(key):
        w_key, x_key = jax.random.split(key)
        start = RandomCarry(jax.random.normal(x_key, (size,)))
        found = diagnostics.lyapunov_spectrum(
            cell,
            gain * cell.init(w_key, 0),
            jnp.zeros((transient + steps, 1)),
            num,
            transient=transient,
            initial_carry=start,
        )
        return found.exponents, found.standard_error

    keys = jnp.stack([jax.random.key(seed) for seed in members])
    exponents, errors = map(np.asarray, training.over_population(measure)(keys))
    weights = [np.asarray(cell.init(jax.random.split(key)[0], 0)) for key in keys]
    radius = [np.abs(np.linalg.eigvals(w.astype(float))).max() for w in weights]
    return {"exponents": exponents, "errors": errors, "radius": np.log(gain * np.array(radius))}


def describe_first(
    gain: float, found: Mapping[str, np.ndarray]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the first exponents beside their theory: a row of a table, an entry of a summary.

    The theory is `diagnostics.mean_field_exponent` for g > 1, else the median of ln |mu_1|. The
    spread is the standard deviation over seeds; NaN for one seed.

    Args:
        gain: g.
        found: what `spectra` returned.
    """
    values, radius = found["exponents"][:, 0], found["radius"]
    theory = diagnostics.mean_field_exponent(gain) if gain > 1 else float(np.median(radius))
    return {"gain": gain, **diagnostics.quartiles(values), "theory": theory}, {
        "mean": float(values.mean()),
        "spread": float(values.std(ddof=1)) if len(values) > 1 else math.nan,
        "theory": theory,
        "of_seeds": values.tolist(),
        "standard_error_of_seeds": found["errors"][:, 0].tolist(),
        "log_spectral_radius_of_seeds": radius.tolist(),
    }


def largest_distance(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return how far the spectra of the two largest networks are apart, at equal i/N.

    In the upper half of the second largest, where the largest is interpolated.

    Args:
        rows: for each network `size`, N; `place`, i/N, rising; and `median`, its spectrum.
    """
    largest, second = sorted(rows, key=lambda row: -row["size"])[:2]
    same = np.interp(second["place"], largest["place"], largest["median"])
    return float(np.abs(same - second["median"])[: len(same) // 2].max())
