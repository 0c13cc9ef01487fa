"""Why does batch normalisation in a recurrent network begin at a small scale? Gradients vanish.

Claim: in a tanh network with batch-normalised pre-activations of scale gamma, the gradient of the
loss with respect to the hidden state, read backwards in time, quickly goes to zero for large gamma
and is nearly constant for small gamma (Cooijmans, Ballas, Laurent, Gulcehre, Courville 2017,
"Recurrent batch normalization", arXiv:1603.09025, on the initialisation of gamma, with a figure of
such a network on sequential MNIST before training). Numbers: read from that figure's vector
graphic in the authors' repository (github.com/cooijmanstim/recurrent-batch-normalization).

As in the authors' code:

    a_t = W_h h_{t-1} + W_x x_t,   h_t = tanh(gamma (a_t - mean a_t) / sqrt(var a_t + 1e-5)),

with the mean and variance of each unit over the 100 images of a batch, at every step; 100 units;
W_h = I; W_x and the softmax's W_y orthogonal; the mean cross-entropy at the last step; 784 pixels
in [0, 1], one a step; and the mean over images of ||dL/dh_t||, which passes through the batch's
statistics. h_0 is noise with standard deviation .1, as in the authors' scripts: the first pixels
have no variance. Different: scikit-learn's 8x8 digits for MNIST, enlarged to 20x20 in a 28x28 frame
as MNIST's are; several networks and batches; float64, in which no gradient underflows.

Verdict: `reproduced` if, in every network, at the smallest of --gammas the norms from t = 100 on
span at most 2 decades (published: 1.1), and at the largest the norm at t = 683 is at least 10
decades below that at t = 783 (published: 16 at t = 700); and at t = 500 the median over networks
falls with every step of gamma from .5 on, as published. Else `not reproduced`; `quick run only` if
--seeds, --images or --features is below its default, or the largest of --gammas less than ten
times the smallest.

    python experiments/papers/cooijmans17_init.py
    python experiments/papers/cooijmans17_init.py --gammas 0.05 0.1 0.2 1 2 --seeds 8
"""

import dataclasses
import functools
import itertools
import math

from rnnjax import experiment, training
from rnnjax.cells.initializers import Identity, Orthogonal
from rnnjax.command_line import ArgumentError, at_least, progress, rising
from rnnjax.experiment import SeedOptions, Verdict

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

EPSILON, NOISE, CLASSES = 1e-5, 0.1, 10
SETTLED, MIDDLE, BACK, END = 100, 500, 683, 783  # steps t of the verdict
CONSTANT, VANISHED, ORDERED = 2.0, 10.0, 0.5  # decades, decades, gamma
HERE, FIGURE = "here: enlarged digits", "published: MNIST"
TIMES = 100, 200, 300, 400, 500, 600, 700, 783
PUBLISHED = {  # log10 of the norm at these; the figure ends where float32 does
    0.1: (-3.10, -3.14, -3.13, -3.11, -3.02, -2.86, -2.54, -2.02),
    0.2: (-2.97, -3.02, -2.90, -2.81, -2.79, -2.82, -2.62, -2.02),
    0.3: (-2.76, -2.56, -1.54, -1.43, -1.65, -2.60, -2.64, -2.02),
    0.4: (-4.14, -3.31, -3.34, -3.17, -3.03, -3.20, -2.65, -2.02),
    0.5: (-9.69, -7.52, -3.55, -2.27, -3.42, -3.71, -2.64, -2.01),
    0.6: (-17.91, -15.67, -11.57, -11.09, -8.27, -6.67, -3.84, -2.01),
    0.7: (*[math.nan] * 4, -17.63, -12.16, -7.15, -2.01),
    0.8: (*[math.nan] * 5, -19.06, -12.81, -2.00),
    0.9: (*[math.nan] * 5, -22.81, -15.11, -2.00),
    1.0: (*[math.nan] * 6, -18.17, -2.00),
}


@dataclasses.dataclass(frozen=True)
class Config(SeedOptions):
    """Measure how gradients travel back in time through batch-normalised networks, untrained.

    Prints a table and writes a figure (PNG, SVG), the numbers behind it (CSV) and summary.json.
    The default run takes about ten seconds on two CPU cores.
    """

    gammas: tuple[float, ...] = tuple(PUBLISHED)
    """Scales of the normalised pre-activations, in rising order."""
    images: int = 100
    """Images of a batch."""
    features: int = 100
    """Hidden units."""

    def __post_init__(self):
        super().__post_init__()
        rising(self, "gammas")
        if len(self.gammas) < 2 or self.gammas[0] <= 0:
            given = " ".join(map(str, self.gammas))
            raise ArgumentError(f"--gammas must be two or more, each positive, got {given}")
        at_least(2, self, "images", most=1442)
        at_least(CLASSES, self, "features")


def read_images(config, seed):
    """Return digits framed as MNIST's are, pixel after pixel, `[784, N, 1]`, and their labels."""
    from rnnjax.datasets import digits

    try:
        pixels, labels = digits.load("train")
    except (ImportError, RuntimeError, ValueError) as error:
        raise ArgumentError(f"the digits: {error}") from error
    chosen = np.random.default_rng(seed).permutation(len(labels))[: config.images]
    small = pixels[chosen].reshape(-1, 8, 8)
    large = jax.image.resize(small, (len(small), 20, 20), "linear")
    framed = np.pad(np.asarray(large), ((0, 0), (4, 4), (4, 4)))
    return framed.reshape(len(small), -1).T[..., None].astype(float), labels[chosen]


def log_norms(gamma, key, xs, labels, *, features):
    """Return ln of the mean over images of ||dL/dh_t||, t = 0 .. T - 1, of one network: `[T]`."""
    input_key, head_key, noise_key = jax.random.split(key, 3)
    recurrent_kernel = Identity()(key, (features, features), xs.dtype)
    input_kernel = Orthogonal()(input_key, (1, features), xs.dtype)
    head = Orthogonal()(head_key, (features, CLASSES), xs.dtype)
    start = NOISE * jax.random.normal(noise_key, (xs.shape[1], features), xs.dtype)

    def step(h, now):
        x, added = now
        a = h @ recurrent_kernel + x @ input_kernel
        a = a - a.mean(0)
        h = jnp.tanh(gamma * a / jnp.sqrt(jnp.square(a).mean(0) + EPSILON)) + added
        return h, None

    def loss(added):  # zeros, so that the derivative is dL/dh_t, through every later step
        h, _ = lax.scan(step, start, (xs, added))
        logs = jax.nn.log_softmax(h @ head)
        return -jnp.take_along_axis(logs, labels[:, None], axis=1).mean()

    gradients = jax.grad(loss)(jnp.zeros((*xs.shape[:2], features), xs.dtype))  # [T, N, H]
    peaks = jnp.abs(gradients).max((1, 2), keepdims=True)  # whose squares would underflow
    norms = jnp.linalg.norm(gradients / peaks, axis=-1).mean(-1)
    return jnp.log(norms) + jnp.log(peaks[:, 0, 0])


@jax.enable_x64(True)
def measure(config, run):
    batches = zip(*(read_images(config, seed) for seed in config.members), strict=True)
    keys = jnp.stack([jax.random.key(seed) for seed in config.members])
    given, rows, found = [keys, *map(np.stack, batches)], [], {}
    mapped = training.over_population(functools.partial(log_norms, features=config.features))

    def of_seeds(gamma):
        return {"logs": mapped(np.full(config.seeds, gamma), *given)}

    for gamma in progress(config.gammas, "gradients"):
        logs = run.cached(f"gamma {gamma:g}", of_seeds, gamma)["logs"]
        band, decades = experiment.quantile_band(logs), logs / math.log(10)
        rows.append({"data": HERE, "gamma": gamma, "t": np.arange(END + 1), **band})
        found[f"{gamma:g}"] = {
            "span": np.ptp(decades[:, SETTLED:], axis=1).tolist(),
            "fall": (decades[:, END] - decades[:, BACK]).tolist(),
            "middle": float(np.median(decades[:, MIDDLE])),
        }
    for gamma, decades in PUBLISHED.items():
        band = dict.fromkeys(("median", "q25", "q75"), math.log(10) * np.array(decades))
        rows.append({"data": FIGURE, "gamma": gamma, "t": np.array(TIMES), **band})
    run.write_table("gradients", rows)
    return {"gammas": found}


def verdict(config, summary):
    found, conditions = summary["gammas"], {}
    smallest, *_, largest = found
    constant = max(found[smallest]["span"]) <= CONSTANT
    conditions[f"gamma {smallest}: the gradient is nearly constant"] = constant
    vanishes = min(found[largest]["fall"]) >= VANISHED
    conditions[f"gamma {largest}: the gradient quickly goes to zero"] = vanishes
    middle = [of["middle"] for gamma, of in found.items() if float(gamma) >= ORDERED]
    falls = all(b < a for a, b in itertools.pairwise(middle))
    conditions["from gamma .5 on, the larger gamma, the smaller the gradient"] = falls
    times = {"gammas": (config.gammas[-1] / config.gammas[0], 10)}
    return Verdict.judge(conditions).unless_quick(config, "seeds", "images", "features", **times)


def show(summary):
    columns, rows = ["gamma", "decades, t >= 100", "fall in 100 steps", "log10 at t = 500"], []
    for gamma, of in summary["gammas"].items():
        published = PUBLISHED.get(float(gamma), [math.nan] * 8)[TIMES.index(MIDDLE)]
        rows.append([gamma, np.median(of["span"]), np.median(of["fall"]), of["middle"], published])
    experiment.print_table([*columns, "published"], rows)


def draw(run):
    words = {
        "xlabel": "pixel t",
        "ylabel": "norm of dL/dh_t, mean over images",
        "ylim": (-70.0, 0.0),
    }
    words |= {"panel": "data", "label_format": "gamma = {:g}", "legend_below": True}
    experiment.draw_curves(run, "gradients", "t", "gamma", natural_logs=True, **words)


run = experiment.Experiment("cooijmans17_init", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
