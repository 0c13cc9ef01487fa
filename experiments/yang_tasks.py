"""What do the units of a network that performs many tasks do? They serve some and not others.

Claim: one network of rectified rate units learns many tasks. Those that are alike use the same
units, unlike ones, such as DM 1 and Anti, have some of their own, and units form clusters by the
tasks that they serve (Yang, Joglekar, Song, Newsome, Wang 2019, "Task representations in neural
networks trained to perform many cognitive tasks", Nature Neuroscience 22: 20 tasks, 256 units,
20 ms steps). The task variance TV of a unit is that of its rate over trials without noise, averaged
over the time after fixation; FTV = (TV_A - TV_B) / (TV_A + TV_B). Units are clustered by TV over
their largest. Alike: tasks that differ in a delay or the modality alone; unlike: of different
families. Controls: randomly rotated rates; each unit's TV shuffled over tasks, 20 times.

Verdict: `reproduced` if in every network of every cell each task is performed in 95 % of held-out
trials (the authors analyse networks from 90 % on); TV is correlated more over units for alike tasks
than for unlike ones; most units have |FTV| < .25 for alike tasks (at most 5/3 times the variance);
more than a tenth have |FTV| > .9 for unlike ones (19 times; a tenth if FTV were uniform), more than
for alike ones and in the control; and the silhouette is above all controls. Else `not reproduced`;
`quick run only` if --steps, --seeds, --features, --batch-size or how many --tasks is below default.

    python experiments/yang_tasks.py
    python experiments/yang_tasks.py --cells gru ./mine.py:MyCell --tasks go dlygo dm1 dm2
"""

import dataclasses
import functools

import rnnjax
from rnnjax import cells, experiment, training
from rnnjax.command_line import at_least
from rnnjax.experiment import CellOptions, TrainingOptions, Verdict, many_tasks, readout
from rnnjax.networks import short_name
from rnnjax.tasks import trials

import jax
import jax.numpy as jnp
import numpy as np

TAU, TRIALS = 100, 256  # ms; trials of each task that are held out, or have their variance measured


@dataclasses.dataclass(frozen=True)
class Config(TrainingOptions, CellOptions):
    """Train one network on many tasks, and measure which of them each unit serves.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes about two minutes on two CPU cores.
    """

    tasks: tuple[str, ...] = ("go", "rtgo", "dlygo", "anti", "rtanti", "dlyanti", "dm1", "dm2")
    """Some of the paper's twenty tasks; two must be alike, and two of different families."""
    cells: tuple[str, ...] = ("rate",)
    features: int = 128
    dt: float = 50.0
    """Time step in ms. The time constant of the cell `rate` is 100 ms."""
    rate_cost: float = 1e-3
    """Weight of the mean absolute rate in the loss; the largest that the authors try."""
    steps: int = 2500
    """Training updates."""
    batch_size: int = 8
    """Trials of each task in an update."""
    seeds: int = 3

    def __post_init__(self):
        self.make_tasks()
        super().__post_init__()
        at_least(0, self, "rate_cost")
        at_least(4, self, "features")
        many_tasks.check_pairs(self, "tasks")

    def make_tasks(self):
        chosen = {"set": functools.partial(trials.yang2019_set, self.tasks)}
        return experiment.make_task(chosen, "set", dt=self.dt, tau=TAU)

    def make_cell(self, name, **options):
        if name == "rate":
            options |= {"dt": self.dt, "tau": TAU, "sigma": 0.05, "activation_fn": jax.nn.relu}
            options |= {"recurrent_kernel_init": cells.initializers.Orthogonal(0.5)}
        return super().make_cell(name, **options)


def sample(key, tasks, cell, count):
    """Draw trials of all tasks, and noise for the units of a cell that has some."""
    batch = trials.sample_tasks(tasks, key, count)
    if not isinstance(cell, cells.Stochastic):
        return batch
    return batch._replace(inputs=cell.with_noise(jax.random.fold_in(key, 1), batch.inputs))


def squared_error(outputs, batch):
    """Return the loss: output 0 is to be .85 in fixation, the others a bump in the response."""
    response, fixation = batch.mask & (batch.targets > 0), batch.mask & (batch.targets == 0)
    bumps = trials.bumps(outputs.shape[-1] - 1)[batch.targets - 1] * response[..., None]
    goal = 0.05 + jnp.concatenate([0.8 * fixation[..., None], bumps], axis=-1)
    error = (
        jnp.square(jax.nn.sigmoid(outputs) - goal).at[..., 0].multiply(2).mean(-1)
    )  # as two others
    weight = sum(part / jnp.maximum(part.sum(0), 1) for part in (response, fixation))
    return (error * weight).sum(0).mean() / 2


def make_train_step(cell, rate_cost, optimizer):
    def train_step(state, batch):
        def loss_fn(params):
            _, rates = rnnjax.unroll(cell, params.cell, batch.inputs)
            outputs = rates @ params.kernel + params.bias
            return squared_error(outputs, batch) + rate_cost * jnp.abs(rates).mean()

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))  # before clipping
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": norm}

    return train_step


def train(config, run, name, tasks):
    """Return the parameters of all seeds, and by update the share of right trials `[S, tasks]`."""
    import optax

    cell, key = config.make_cell(name), jax.random.fold_in(jax.random.key(config.seed), 1)
    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optax.adam(rate))
    draw = functools.partial(sample, tasks=tasks, cell=cell)
    held_out = jax.jit(functools.partial(draw, count=TRIALS))(key)
    resumable = training.ResumableTraining.from_config(config, run, config.members, cell=name)
    trained = resumable.train_on_samples(
        make_train_step(cell, config.rate_cost, optimizer),
        readout.start(config, optimizer, cell, tasks[0]),
        functools.partial(draw, count=config.batch_size),
        steps=config.steps,
        chunk_size=-(-config.steps // 10),
        observe=many_tasks.observe_performance(cell, held_out, len(tasks)),
    )
    return trained.state.params, trained.observed()


def describe(names, right, seed, trained, rotated):
    """Return what is claimed of one network, from TV `[tasks, H]` and that of the control."""
    rows, found = many_tasks.normalised_variance(trained), {}
    found["performance"] = dict(zip(names, right.tolist(), strict=True))
    found |= experiment.silhouettes(rows.T, most=29, shuffles=20, seed=seed)._asdict()
    for kind, pairs in trials.pairs_by_kind(names).items():
        at = [(names.index(a), names.index(b)) for a, b in pairs]
        ftv, control = (np.abs(many_tasks.fractional_variance(tv, at)) for tv in (trained, rotated))
        over_units = many_tasks.correlations(rows)
        found[f"{kind}_correlation"] = float(np.mean([over_units[pair] for pair in at]))
        found[f"{kind}_equal"] = many_tasks.share(ftv < 0.25)
        found[f"{kind}_special"] = many_tasks.share(ftv > 0.9)
        found[f"{kind}_rotated"] = many_tasks.share(control > 0.9)
    return found


def measure(config, run):
    names, tasks, found, tables = config.tasks, config.make_tasks(), {}, {}
    key = jax.random.fold_in(jax.random.key(config.seed), 2)
    for full_name in config.cells:
        name, cell = short_name(full_name), config.make_cell(full_name)
        params, right = train(config, run, full_name, tasks)
        variance = many_tasks.measure_variance(cell, params.cell, tasks, key, TRIALS)
        networks = zip(right[config.steps], config.members, *variance, strict=True)
        found[name] = [describe(names, *network) for network in networks]
        for table, rows in many_tasks.tables(name, names, variance, right, 0.9).items():
            tables.setdefault(table, []).extend(rows)
        run.write_tables(tables)
    return {"cells": found}


def verdict(config, summary):
    conditions = {}
    for cell, of in summary["cells"].items():
        rules = {
            "each task in 95 % of trials": lambda n: min(n["performance"].values()) >= 0.95,
            "alike tasks correlated": lambda n: n["alike_correlation"] > n["unlike_correlation"],
            "most units equal in alike tasks": lambda n: n["alike_equal"] > 0.5,
            "special units in unlike tasks": lambda n: n["unlike_special"] > 0.1,
            "special: beyond alike tasks": lambda n: n["unlike_special"] > n["alike_special"],
            "special: beyond rotation": lambda n: n["unlike_special"] > n["unlike_rotated"],
            "clusters": lambda n: n["silhouette"] > n["shuffled"],
        }
        conditions |= {f"{cell}: {words}": all(map(rule, of)) for words, rule in rules.items()}
    quick, tasks = ("steps", "seeds", "features", "batch_size"), (len(config.tasks), 8)
    return Verdict.judge(conditions).unless_quick(config, *quick, tasks=tasks)


def show(summary):
    for cell, networks in summary["cells"].items():
        rows = [[key, *(n[key] for n in networks)] for key in networks[0] if key != "performance"]
        rows.append(["worst performance", *(min(n["performance"].values()) for n in networks)])
        experiment.print_table([cell, *map(str, range(len(networks)))], rows, digits=3)


def draw(run):
    many_tasks.draw(run)


run = experiment.Experiment("yang_tasks", Config, measure, verdict, draw, show=show)

if __name__ == "__main__":
    run.main()
