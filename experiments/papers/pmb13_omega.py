"""Does the regulariser Omega keep the gradient of a tanh network from vanishing?

Claim: the regulariser

    Omega = sum over k of (||dL/dx_{k+1} dx_{k+1}/dx_k|| / ||dL/dx_{k+1}|| - 1)^2,

whose gradient passes through the recurrent kernel U alone, keeps the norm of the gradient from one
step back to the next, so that it no longer vanishes with the lag (Pascanu, Mikolov, Bengio 2013,
"On the difficulty of training recurrent neural networks", arXiv:1211.5063, equation 9). The
paper reports what it does to success rates; here its effect on the gradient itself is measured.

Task: temporal order over 100 steps (`tasks.TemporalOrder`), cross-entropy at the last step.
Network, as in the authors' code: 50 tanh units, kernels N(0, .1^2), biases 0; `--init smart_tanh`
has kernels N(0, .01^2) and 15 weights a unit in U, scaled to a spectral radius of .95. Training, as
there: gradient descent at .01, batches of 20, gradients (that of Omega included) clipped to a norm
of 1; ratios squared before 1 is taken off, averaged over all steps and sequences whose squared
gradient is at least 1e-20, and multiplied by --weight, 4 in the paper. Different: 2,000 updates for
up to five million; the ratio of the very last step is left out.

Measured is ln(||dL/ds_{T-k}|| / ||dL/ds_{T-1}||) on held-out sequences after training: the gradient
at lag k over that at lag 1, the median over sequences of each network, and then over networks.

Verdict: `reproduced` if the gradient at the longest lag is (1) with Omega between a hundredth and a
hundred times that at lag 1 (less than 5 % per step), (2) without, where the same networks saw the
same batches, below a millionth of it, and (3) larger with Omega in every pair of networks. Else
`not reproduced`; `quick run only` if --steps, --seeds, --features or --length is below its default.

    python experiments/papers/pmb13_omega.py
    python experiments/papers/pmb13_omega.py --init smart_tanh --length 50
"""

import dataclasses
import functools
import math
from typing import Any, Literal

import rnnjax
from rnnjax import diagnostics, experiment, regularizers, tasks, training
from rnnjax.cells.initializers import SpectralRadius
from rnnjax.command_line import at_least, positive
from rnnjax.experiment import TrainingOptions, Verdict, readout

import jax
import jax.numpy as jnp
import numpy as np

FLAT, VANISHED = math.log(100), math.log(1e-6)
BOUND = 1e-20  # of squared gradients that count, in the authors' code
WITH, WITHOUT = "with Omega", "without Omega"
IDEAL = "published: Omega = 0"
SCALES = {"tanh": 0.1, "smart_tanh": 0.01}  # of all kernels but the second's U
NORMAL = {init: jax.nn.initializers.normal(scale) for init, scale in SCALES.items()}
RECURRENT = {**NORMAL, "smart_tanh": SpectralRadius(0.95, nonzeros=15)}


@dataclasses.dataclass(frozen=True)
class Config(TrainingOptions):
    """Train tanh networks with and without Omega, and measure their gradients by lag.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes about a minute and a half on two CPU cores.
    """

    length: int = 100
    """Steps of a sequence."""
    init: Literal["tanh", "smart_tanh"] = "tanh"
    """How kernels are drawn."""
    weight: float = 4.0
    """Of Omega in the loss."""
    features: int = 50
    """Units of each network."""
    steps: int = 2000
    """Training updates."""
    batch_size: int = 20
    learning_rate: float = 0.01
    """Step size of gradient descent."""
    seeds: int = 8
    snapshots = 10  # of the gradients, during training

    def __post_init__(self):
        super().__post_init__()
        at_least(1, self, "features")
        positive(self, "weight")
        self.make_task()

    def make_task(self):
        return experiment.make_task({"order": tasks.TemporalOrder}, "order", length=self.length)

    def make_cell(self):
        recurrent = RECURRENT[self.init]
        drawn = {"kernel_init": NORMAL[self.init], "recurrent_kernel_init": recurrent}
        return rnnjax.Elman(self.features, **drawn)


def mean_omega(cell, params, xs, adjoints):
    """Return Omega as a mean over steps and sequences, of gradients that are not too small."""
    counts = jnp.sum(adjoints.h**2, -1) >= BOUND
    kept = adjoints._replace(h=jnp.where(counts[..., None], adjoints.h, 0))
    total = regularizers.omega(cell, params, xs, kept, exponent=2)  # mean of sums over steps
    return total / jnp.maximum(counts[1:].mean(1).sum(), 1)


def make_train_step(config, cell, task, weight):
    import optax

    clip = optax.clip_by_global_norm(config.clip)
    optimizer = optax.chain(clip, optax.sgd(config.learning_rate))

    def train_step(state, batch):
        def loss_fn(params, perturbations):
            outputs = readout.apply(cell, params, batch.inputs, perturbations=perturbations)
            return task.loss(outputs, batch)

        zeros = diagnostics.zero_perturbations(cell, batch.inputs)
        both = jax.value_and_grad(loss_fn, argnums=(0, 1))
        loss, (gradient, adjoints) = both(state.params, zeros)  # adjoints are dL/ds_t
        where = state.params.cell, batch.inputs, adjoints
        omega, slopes = jax.value_and_grad(functools.partial(mean_omega, cell))(*where)
        total = jax.tree.map(lambda g, o: g + weight * o, gradient.cell, slopes)
        gradient = gradient._replace(cell=total)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))  # before clipping
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "omega": omega, "grad_norm": norm}

    return train_step, optimizer


def probe(cell, task, params, batch):
    """Return ln of gradient norms over that at lag 1, the median over sequences `[T]`; accuracy."""

    def loss(ys):
        return task.example_losses(ys @ params.kernel + params.bias, batch).sum()

    logs = diagnostics.gradient_profile(cell, params.cell, batch.inputs, loss).log_norms
    accuracy = task.metrics(readout.apply(cell, params, batch.inputs), batch)["accuracy"]
    return {"profile": jnp.median(logs - logs[0], axis=1), "accuracy": accuracy}


def measure(config, run):
    task, cell, found = config.make_task(), config.make_cell(), {}
    (held_out,) = experiment.sampled_sets(task, config.members, 128)
    observe = training.over_population(functools.partial(probe, cell, task))
    sample = functools.partial(task.sample, batch_size=config.batch_size)
    profiles: dict[str, Any] = dict.fromkeys((WITHOUT, WITH, "before training"))
    ends_by_update = []
    for network, weight in {WITHOUT: 0.0, WITH: config.weight}.items():
        step, optimizer = make_train_step(config, cell, task, weight)
        state = readout.start(config, optimizer, cell, task)
        kernel = state.params.kernel * (SCALES[config.init] * math.sqrt(config.features))
        state = experiment.restart(state, optimizer, state.params._replace(kernel=kernel))
        trained = experiment.train_and_probe(
            config, run, step, state, observe, held_out, sample=sample, network=network
        )
        before, *_, after = (history := trained.observed()).values()
        profiles["before training"] = experiment.profile_rows(before["profile"])
        profiles[network] = experiment.profile_rows(after["profile"])
        ends = np.stack([of["profile"][:, -1] for of in history.values()], 1)
        row = {"network": network, "update": np.array([*history])}
        ends_by_update.append(row | experiment.quantile_band(ends))
        accuracy = after["accuracy"].tolist()
        found[network] = {"log_ratio": ends[:, -1].tolist(), "accuracy": accuracy}
    flat = dict.fromkeys(("median", "q25", "q75"), np.zeros(task.length))
    profiles[IDEAL] = {"lag": np.arange(1, task.length + 1), **flat}
    run.write_table("gradients", [{"network": key, **rows} for key, rows in profiles.items()])
    run.write_table("longest_lag", ends_by_update)
    return {"longest_lag": task.length, "networks": found}


def verdict(config, summary):
    ends = {network: np.array(of["log_ratio"]) for network, of in summary["networks"].items()}
    conditions = {
        "with Omega the gradient stays within a factor of 100": abs(np.median(ends[WITH])) <= FLAT,
        "without it falls below a millionth": np.median(ends[WITHOUT]) <= VANISHED,
        "it is larger with Omega in every pair": (ends[WITH] > ends[WITHOUT]).all(),
    }
    return Verdict.judge(conditions).unless_quick(config, "steps", "seeds", "features", "length")


def show(summary):
    header = ["", "gradient at the longest lag over lag 1, median", "least", "most", "accuracy"]
    rows = []
    for network, of in summary["networks"].items():
        ratios = np.exp(np.quantile(of["log_ratio"], (0.5, 0, 1))).tolist()
        rows.append([network, *ratios, float(np.median(of["accuracy"]))])
    experiment.print_table(header, rows)


def draw(run):
    words = {"natural_logs": True, "ylabel": "gradient over that at lag 1"}
    experiment.draw_curves(run, "gradients", "lag", "network", reference=IDEAL, **words)
    words |= {"xlabel": "training update", "ylabel": "gradient at the longest lag over lag 1"}
    experiment.draw_curves(run, "longest_lag", "update", "network", level=0, **words)


run = experiment.Experiment("pmb13_omega", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
