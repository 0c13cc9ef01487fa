"""Why an Elman network forgets: gradients through time, before, during and after training.

Claim: on a task that needs long memory the gradient of a vanilla (Elman) RNN vanishes within tens
of steps, so the network stays at the memoryless answer, while an LSTM or a GRU learns to carry the
gradient across the whole sequence, and with it the task (Hochreiter 1991; Bengio, Simard, Frasconi
1994; Hochreiter & Schmidhuber 1997).

    python experiments/vanishing_gradients.py
    python experiments/vanishing_gradients.py --task digits --cells lstm gru --seeds 5
    python experiments/vanishing_gradients.py --preset long      # for an accelerator
"""

import bisect
import collections
import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax
from rnnjax import diagnostics, tasks, training
from rnnjax.command_line import ArgumentError, at_least, main, positive
from rnnjax.experiment import RunOptions, in_run

CELLS = {"elman": rnnjax.Elman, "lstm": rnnjax.LSTM, "gru": rnnjax.GRU}
TASKS = {
    "adding": tasks.AddingArjovsky2016,
    "adding_arjovsky2016": tasks.AddingArjovsky2016,
    "adding_hochreiter1997": tasks.AddingHochreiter1997,
    "copy_memory": tasks.CopyMemory,
    "temporal_order": tasks.TemporalOrder,
    "digits": tasks.PixelDigits,
}
PHASES = {"before": "before training", "during": "halfway", "after": "after training"}


@dataclasses.dataclass(frozen=True)
class Config(RunOptions):
    """Measure gradients through time in Elman, LSTM and GRU networks while they learn a task.

    Prints a table and writes figures (PNG, SVG), the numbers behind them (CSV), metrics.jsonl and
    summary.json. The default run takes under two minutes on two CPU cores.
    """

    preset: Literal["default", "long"] = "default"
    """Defaults of the other options: a run for a laptop, or a long one for an accelerator."""
    task: Literal[tuple(TASKS)] = "adding"  # pyright: ignore[reportInvalidTypeForm]
    """What to learn; `adding` is short for `adding_arjovsky2016`, `digits` is real data."""
    cells: tuple[Literal[tuple(CELLS)], ...] = tuple(CELLS)  # pyright: ignore
    """Which cells to compare."""
    length: int | None = None
    """Sequence length T [default: 100; 750 with --preset long; always 64 for digits]."""
    features: int = 64
    """Hidden units of each cell."""
    match_parameters: bool = False
    """Widen the smaller cells until they have as many parameters as the largest at --features."""
    steps: int = 1000
    """Training updates."""
    batch_size: int = 32
    """Sequences in an update."""
    learning_rate: float = 3e-3
    """Of Adam."""
    clip: float = 1.0
    """Largest global norm of the gradient; the metrics record the norm before clipping."""
    seeds: int = 4
    """Networks trained for each cell, all in one program."""
    seed: int = 0
    """Seed of the first network; the others count up from it."""
    record_every: int = 10
    """Updates between two entries of metrics.jsonl."""
    snapshots: int = 20
    """How often the gradient profile is measured during training."""
    permuted: bool = False
    """Show the pixels of digits in one fixed random order."""

    def __post_init__(self):
        at_least(1, self, "features", "steps", "batch_size", "seeds", "record_every", "snapshots")
        at_least(0, self, "seed")
        positive(self, "learning_rate", "clip")
        if not self.cells or len(set(self.cells)) < len(self.cells):
            raise ArgumentError(f"--cells must name some of {', '.join(CELLS)}, each once")
        if self.permuted and self.task != "digits":
            raise ArgumentError(f"--permuted applies to --task digits, not to {self.task}")
        self.make_task()

    def make_task(self):
        default = 64 if self.task == "digits" else {"default": 100, "long": 750}[self.preset]
        try:
            return TASKS[self.task](length=default if self.length is None else self.length)
        except ValueError as error:
            raise ArgumentError(f"--{error}") from None

    def make_cell(self, name, task):
        """Return the cell; with --match-parameters, of the width nearest to the largest's count."""
        if not self.match_parameters:
            return CELLS[name](self.features)
        target = max(count(cell(self.features), task) for cell in CELLS.values())
        widths = range(self.features, 3 * self.features + 1)
        at = bisect.bisect_left(widths, target, key=lambda h: count(CELLS[name](h), task))
        nearby = widths[max(0, at - 1) : at + 1]
        return CELLS[name](min(nearby, key=lambda h: abs(count(CELLS[name](h), task) - target)))


PRESETS = {
    "default": Config(),
    "long": Config(preset="long", features=128, steps=20000, batch_size=128, seeds=8, snapshots=50),
}


class Model(NamedTuple):
    """Parameters: a cell's, and those of a linear head y = h W + b."""

    cell: Any
    kernel: Any
    bias: Any


def init(cell, task, key):
    cell_key, head_key = jax.random.split(key)
    kernel = rnnjax.cells.initializers.Gaussian()(head_key, (cell.features, task.output_size))
    return Model(cell.init(cell_key, task.input_size), kernel, jnp.zeros(task.output_size))


def apply(cell, params, inputs):
    _, hidden = rnnjax.unroll(cell, params.cell, inputs)
    return hidden @ params.kernel + params.bias


def count(cell, task):
    shapes = jax.eval_shape(lambda: init(cell, task, jax.random.key(0)))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def make_train_step(cell, task, optimizer):
    def train_step(state, batch):
        def loss_fn(params):
            return task.loss(apply(cell, params, batch.inputs), batch)

        loss, gradient = jax.value_and_grad(loss_fn)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = jax.tree.map(jnp.add, state.params, updates)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))  # before clipping
        state = state._replace(params=params, opt_state=opt_state, step=state.step + 1)
        return state, {"loss": loss, "grad_norm": norm}

    return train_step


@jax.default_matmul_precision("float32")
def gradient_profile(cell, task, lags, params, batch):
    """Return ln(||dL/ds_{T-k}|| / ||dL/ds_T||) at lags k, `[K, B]`, and its parts.

    L is a sequence's own loss at its last scored step, T that step.
    """
    lengths, answer = tasks.last_answer(batch)
    final, _ = rnnjax.unroll(cell, params.cell, batch.inputs, seq_lengths=lengths)

    def loss(carry):
        outputs = cell.output(carry) @ params.kernel + params.bias
        return task.example_losses(outputs[None], answer).sum()

    cotangent = jax.grad(loss)(final)
    where = cell, params.cell, batch.inputs, cotangent
    parts = diagnostics.log_gradient_profile_by_part(*where, seq_lengths=lengths)._asdict()
    parts["joint"] = functools.reduce(jnp.logaddexp, [2 * p for p in parts.values()]) / 2
    if isinstance(cell, rnnjax.LSTM):
        parts |= diagnostics.log_carousel_profile(*where, seq_lengths=lengths)._asdict()
    start = jnp.log(sum(jnp.sum(c**2, -1) for c in jax.tree.leaves(cotangent))) / 2
    return {part: diagnostics.by_lag(p, lengths, lags) - start for part, p in parts.items()}


class Data(NamedTuple):
    """What the cells are compared on: the same for each."""

    probe: tasks.Batch  # [S, ...], where gradients are measured
    held_out: tasks.Batch  # [S, ...], never trained on
    batches: Any  # () -> one iterator of training batches for each seed; None: sample them
    lags: int  # K, the shortest distance from a sequence's start to its last scored step


def make_data(config, task, seeds):
    if config.task == "digits":
        probe, held_out, batches = make_digits(config, seeds)
    else:
        keys = [jax.random.split(jax.random.fold_in(jax.random.key(s), 1)) for s in seeds]
        keys, batches = jnp.stack(keys), None
        probe, held_out = (
            training.over_population(functools.partial(task.sample, batch_size=size))(keys[:, i])
            for i, size in enumerate((32, 1024))
        )
    lengths, _ = jax.vmap(tasks.last_answer)(probe)
    return Data(probe, held_out, batches, int(lengths.min()))


def make_digits(config, seeds):
    from rnnjax.datasets import digits

    def pipeline(split, size, seed):
        batches = digits.pipeline(split, size, seed=seed, permuted=config.permuted)
        return (tasks.Batch(**batch) for batch in batches)

    def batches():
        return [pipeline("train", config.batch_size, seed) for seed in seeds]

    try:
        pipeline("train", config.batch_size, config.seed)  # refuses what does not fit, now
        tests = [next(pipeline("test", size, 0)) for size in (32, digits.SIZES["test"])]
    except (ImportError, RuntimeError, ValueError) as error:
        raise ArgumentError(f"--task digits: {error}") from error
    probe, held_out = (jax.tree.map(lambda a: np.stack([a] * len(seeds)), t) for t in tests)
    return probe, held_out, batches


def train(config, name, task, data, run, tables):
    """Train all seeds of a cell, add to the numbers behind the figures, and return its summary."""
    import optax

    cell = config.make_cell(name, task)
    clip, adam = optax.clip_by_global_norm(config.clip), optax.adam(config.learning_rate)
    optimizer = optax.chain(clip, adam)
    seeds = list(range(config.seed, config.seed + config.seeds))

    def start(key):
        init_key, data_key = jax.random.split(key)
        params = init(cell, task, init_key)
        return training.TrainState(params, optimizer.init(params), jnp.int32(0), data_key)

    state = training.over_population(start)(jnp.stack([jax.random.key(s) for s in seeds]))
    train_step = make_train_step(cell, task, optimizer)
    chunk_size = -(-config.steps // config.snapshots)
    profile = training.over_population(functools.partial(gradient_profile, cell, task, data.lags))
    options: Any = {"steps": config.steps, "chunk_size": chunk_size}
    options["observe"] = lambda state: profile(state.params, data.probe)
    journal = training.ResumableTraining.from_config(config, run, seeds, cell=name)
    if data.batches is None:
        sample = functools.partial(task.sample, batch_size=config.batch_size)
        trained = journal.train_on_samples(train_step, state, sample, **options)
    else:
        trained = journal.train_on_batches(train_step, state, data.batches(), **options)

    middle = chunk_size * max(1, config.steps // chunk_size // 2)
    phases = {0: "before", middle: "during", config.steps: "after"}
    half_life = {0: record(tables, name, 0, "before", trained.before)}
    for chunk in trained.chunks:
        phase = phases.get(chunk.step, "")
        half_life[chunk.step] = record(tables, name, chunk.step, phase, chunk.observed)
        tables["learning_curves"] += [{"cell": name, **row} for row in window_means(chunk)]
    state = trained.state

    evaluate = training.over_population(
        lambda params, batch: task.metrics(apply(cell, params, batch.inputs), batch)
    )
    results = jax.tree.map(np.asarray, evaluate(state.params, data.held_out))
    solved = [task.success({k: v[i] for k, v in results.items()}) for i in range(len(seeds))]
    return {
        "parameters": count(cell, task),
        "features": cell.features,
        "half_life_init": half_life[0],
        "half_life_trained": half_life[config.steps],
        "final_loss": float(np.median(results["loss"])),
        "chance": task.chance,
        "success": float(np.mean(solved)),
        "loss_of_seeds": results["loss"].tolist(),
        "accuracy_of_seeds": results["accuracy"].tolist(),
    }


def record(tables, cell, step, phase, profiles):
    """Add profiles `[S, K, B]` by part to the tables, and return the half-life of their median."""
    life = None
    for part, values in profiles.items():
        values = np.moveaxis(np.asarray(values), 1, 0).reshape(values.shape[1], -1)  # [K, S * B]
        rows = {"cell": cell, "step": step, "lag": np.arange(1, len(values) + 1)}
        rows |= diagnostics.quartiles(values)
        if part == "joint":
            life = float(diagnostics.half_life(jnp.asarray(rows["median"])))
            tables["profile_over_training"].append(rows)
            if phase:
                tables["gradient_profiles"].append({"phase": phase, **rows, "half_life": life})
        if phase and cell == "lstm":
            tables["path_split"].append({"phase": phase, "path": part, **rows})
    return life


def window_means(chunk, windows=5):
    """Return the loss averaged over parts of a chunk, as rows of the learning curve.

    Of the members that have not stopped.
    """
    losses, step, rows = chunk.metrics["loss"], chunk.first_step - 1, []
    for part in np.array_split(losses, min(windows, len(losses))):
        step += len(part)
        means = part.mean(0)
        rows.append({"step": step, **diagnostics.quartiles(means[np.isfinite(means)])})
    return rows


def draw(run):
    """Draw the figures of a run from its tables."""
    from rnnjax import figures

    table = run.read_table("gradient_profiles")
    steps = dict(zip(table["phase"], table["step"], strict=True))
    titles = {p: f"{PHASES[p]} (step {int(steps[p])})" for p in PHASES if p in steps}
    run.save_figure("gradient_profiles", figures.gradient_profiles(table, titles))
    table = run.read_table("profile_over_training")
    run.save_figure("profile_over_training", figures.profile_over_training(table))
    chance = next(iter(run.read_json("summary.json").values()))["chance"]
    table = run.read_table("learning_curves")
    run.save_figure("learning_curves", figures.learning_curves(table, chance))
    if (run.path / "path_split.csv").exists():
        paths = {
            "c": "to the cell state c",
            "h": "to the hidden state h",
            "carousel": "through forget gates alone",
            "rest": "through the recurrent kernel",
            "joint": "all of it",
        }
        table = run.read_table("path_split")
        run.save_figure("path_split", figures.path_split(table, titles, paths))


def print_summary(summary):
    columns = "parameters", "half_life_init", "half_life_trained", "final_loss", "chance", "success"
    print(f"{'cell':6}" + "".join(f"{name:>19}" for name in columns))
    for cell, row in summary.items():
        print(f"{cell:6}" + "".join(f"{row[name]:19.5g}" for name in columns))


def run(config: Config) -> dict[str, Any]:
    """Run the experiment and return its summary, an entry for each cell."""
    return in_run("vanishing_gradients", config, functools.partial(measure, config), draw)


def measure(config, run):
    task, tables, summary = config.make_task(), collections.defaultdict(list), {}
    data = make_data(config, task, range(config.seed, config.seed + config.seeds))
    for name in config.cells:
        summary[name] = train(config, name, task, data, run, tables)
        for table, parts in tables.items():
            run.write_table(table, parts)
    print_summary(summary)
    return summary


if __name__ == "__main__":
    main(Config, run, presets=PRESETS)
