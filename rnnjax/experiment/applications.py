"""What applications on real data share: options, networks by name, training, the report, answers.

An application is one file with its data, its model and its `train_step`. Its run holds, besides
what every run holds:

summary.json        its metric on held-out data over several seeds, beside the trivial baselines
params              the trained parameters of all seeds
preprocessing.json  what was fitted on the training split: vocabulary, scales, ...
gradients           table and figure of the gradient against the lag
training            table and figure of the training loss

so that `--predict` answers on new input without training.
"""

import dataclasses
import functools
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import cells, checkpoint, diagnostics, training
from rnnjax.command_line import ArgumentError, RunOptions, at_least, in_run, positive
from rnnjax.datasets.preparing import DamagedError
from rnnjax.runs import Run

PyTree = Any

CELLS = {"elman": cells.Elman, "lstm": cells.LSTM, "gru": cells.GRU}
FORMS = "", "deep", "bidirectional", "deep_bidirectional"
NETWORKS = "tcn", "elman", "lstm", "gru", "bidirectional_gru", "deep_gru", "transformer"
CAUSAL = tuple(name for name in NETWORKS if not name.startswith("bidirectional_"))
NAMES = {
    "tcn": "causal CNN",
    "elman": "Elman",
    "lstm": "LSTM",
    "gru": "GRU",
    "bidirectional_gru": "bidirectional GRU",
    "deep_gru": "deep GRU",
    "transformer": "Transformer",
}


@dataclasses.dataclass(frozen=True)
class Options(RunOptions):
    """What every application can be told; abstract. A subclass adds its own and other defaults."""

    steps: int = 500
    """Training updates."""
    batch_size: int = 32
    """Examples in an update."""
    learning_rate: float = 3e-3
    """Of Adam."""
    clip: float = 1.0
    """Largest global norm of the gradient; the metrics record the norm before clipping."""
    seeds: int = 3
    """Networks to train, all in one program; the spread is that of their results."""
    seed: int = 0
    """Seed of the first network; the others count up from it."""
    record_every: int = 10
    """Updates between two entries of metrics.jsonl."""
    predict: str | None = None
    """Answer on this new input (or on those in this file) with the finished run in --out."""

    def __post_init__(self):
        at_least(1, self, "steps", "batch_size", "seeds", "record_every")
        at_least(0, self, "seed")
        positive(self, "learning_rate", "clip")

    @property
    def members(self) -> list[int]:
        """The seeds of the networks."""
        return list(range(self.seed, self.seed + self.seeds))


def network(name: str, features: int, *, window: int) -> Any:
    """Return the layer that a command line names: [B, T, D] -> [B, T, H].

    Args:
        name: `tcn`, `transformer`, or a cell, `elman`, `lstm` or `gru`, alone or after `deep_` (two
            layers), `bidirectional_` or both.
        features: H of every layer and direction.
        window: how far back the network must be able to look, in steps: it sets the number of
            blocks of the CNN, and what the Transformer attends to.

    Raises:
        ArgumentError: there is no such network, or the Transformer cannot have so many features.
    """
    from rnnjax.layers import RNN, TCN, Bidirectional, Stack, Transformer

    if name == "tcn":
        blocks = next(n for n in range(1, 64) if 1 + 4 * (2**n - 1) >= window)
        return TCN(features, num_blocks=blocks)
    if name == "transformer":
        if features % 4:
            raise ArgumentError(f"--features must be a multiple of 4, got {features}")
        return Transformer(features, num_heads=4, window=window)
    form, _, cell = name.rpartition("_")
    if cell not in CELLS or form not in FORMS:
        raise ArgumentError(f"--network must be one of {', '.join(NETWORKS)}, got {name!r}")

    def layer():
        rnn = functools.partial(RNN, CELLS[cell](features))
        return Bidirectional(rnn(), rnn()) if "bidirectional" in form else rnn()

    return Stack([layer(), layer()]) if "deep" in form else layer()


def start(config: Options, optimizer: Any, init: Callable[[Any], PyTree]) -> training.TrainState:
    """Return the state of all members before training; `init(key)` gives one's parameters."""

    def one(key):
        init_key, own = jax.random.split(key)
        params = init(init_key)
        return training.TrainState(params, optimizer.init(params), jnp.int32(0), own)

    keys = jnp.stack([jax.random.key(seed) for seed in config.members])
    return training.over_population(one)(keys)


def fit(
    config: Options,
    run: Run,
    train_step: training.TrainStep,
    state: training.TrainState,
    batches: Sequence[Iterable[Any]],
    *,
    members: Sequence[Any] | None = None,
    label: str = "training",
    **labels: Any,
) -> training.TrainState:
    """Train for `config.steps` on one iterator of batches a member; return the last state.

    Metrics go to metrics.jsonl, with `labels` on every line, times to times.jsonl.

    Args:
        members: what stands as `seed` in metrics.jsonl, for each member; None means the seeds.
        label: shown beside the progress bar.
    """
    members = config.members if members is None else members
    journal = training.ResumableTraining.from_config(config, run, members, **labels)
    journal = dataclasses.replace(journal, label=label)
    size = -(-config.steps // 10)
    return journal.train_on_batches(
        train_step, state, batches, steps=config.steps, chunk_size=size
    ).state


def evaluate(
    function: Callable[..., Any],
    params: PyTree,
    columns: Mapping[str, Any],
    *,
    batch_size: int = 256,
) -> Any:
    """Return `function(params, **rows)` for every member and all rows, in batches: `[S, N, ...]`.

    Args:
        function: of one member's parameters and some rows of the columns to a tree of arrays with
            the rows as leading axis.
        params: of all members, `[S, ...]`.
        columns: arrays with a common leading axis N.
    """
    columns = {name: np.asarray(column) for name, column in columns.items()}
    count = len(next(iter(columns.values())))
    size = min(batch_size, count)
    mapped = training.over_population(lambda params, *, rows: function(params, **rows))
    found = []
    for first in range(0, count, size):
        places = np.minimum(np.arange(first, first + size), count - 1)  # one shape, one program
        rows = {name: column[places] for name, column in columns.items()}
        found.append(jax.tree.map(np.asarray, mapped(params, rows=rows)))
    return jax.tree.map(lambda *parts: np.concatenate(parts, axis=1)[:, :count], *found)


def parameter_count(params: PyTree) -> int:
    """Return how many parameters one member has; `params` are those of all, `[S, ...]`."""
    return sum(p[0].size for p in jax.tree.leaves(params))


def report(
    metric: str,
    values: Iterable[Any],
    baselines: Mapping[str, float],
    *,
    higher_is_better: bool,
    source: str,
    examples: Sequence[Mapping[str, Any]],
    **more: Any,
) -> dict[str, Any]:
    """Print and return the summary of an application.

    `value` is the mean over seeds, `spread` the largest less the smallest. `baseline` is the best
    of the baselines; `beats_baseline` says whether the value is better by more than the spread.

    Args:
        metric: its name, with the unit if it has one.
        values: one for each seed, on held-out data.
        baselines: of the same data and metric, by name; what the answer is without any network.
        source: of the data, and their scale: demonstration, synthetic, whole.
        examples: inputs, answers and the like, to read.
        more: other entries of the summary.
    """
    values = [float(value) for value in values]
    pick = max if higher_is_better else min
    name = pick(baselines, key=lambda name: baselines[name])
    value, baseline, spread = (
        float(np.mean(values)),
        float(baselines[name]),
        max(values) - min(values),
    )
    better = value - baseline if higher_is_better else baseline - value
    summary = {
        "metric": metric,
        "value": value,
        "spread": spread,
        "values": values,
        "baseline": baseline,
        "baseline_name": name,
        "baselines": {name: float(baseline) for name, baseline in baselines.items()},
        "higher_is_better": higher_is_better,
        "beats_baseline": bool(better > spread),
        "source": source,
        **more,
        "examples": list(examples),
    }
    _print(summary)
    return summary


def _print(summary):
    direction = "higher" if summary["higher_is_better"] else "lower"
    print(f"Data: {summary['source']}")
    print(f"{summary['metric']} on held-out data ({direction} is better)")
    seeds = len(summary["values"])
    spread = f"mean of {seeds} seeds, spread {summary['spread']:.3g}" if seeds > 1 else "one seed"
    print(f"  {summary['value']:10.4g}  network ({spread})")
    for name, baseline in summary["baselines"].items():
        print(f"  {baseline:10.4g}  {name}")
    verdict = "beats" if summary["beats_baseline"] else "does not beat"
    print(f"The network {verdict} the best baseline by more than the spread.")
    for example in summary["examples"]:
        print("  " + "  ".join(f"{name}: {value}" for name, value in example.items()))


def log_gradients(
    model: Any, params: PyTree, loss: Callable[[Any], Any], *inputs: Any, **options: Any
) -> dict[str, np.ndarray]:
    """Return `log_gradient_by_layer` for every member: natural logs `[S, T, B]` by layer.

    Embedded tokens are shown like inputs that are vectors, as the outputs of their `Embed`.

    Args:
        params: of all members, `[S, ...]`.
        loss: of the model's outputs, a sum over the examples.
        inputs, options: of the model, the same for all members.
    """
    from rnnjax.layers import Embed

    names: list[str] = []  # in the order of the computation, which jit does not keep

    def one(params):
        found = diagnostics.log_gradient_by_layer(
            model, {"params": params}, loss, *inputs, outputs_of=(Embed,), **options
        )
        names[:] = found
        return found

    with jax.default_matmul_precision("float32"):
        found = training.over_population(one)(params)
    return {name: np.asarray(found[name]) for name in names}


def gradient_table(profiles: Mapping[str, Any], lengths: Any = None) -> list[dict[str, Any]]:
    """Return the parts of a table: each lag's share of a layer's gradient, in natural logs.

    A share is the norm at one lag, counted from a sequence's own end, over the root of the sum of
    squares at all lags up to the shortest sequence's. Columns `layer`, `lag`, `median`, `q25` and
    `q75` over members and examples.

    Args:
        profiles: natural logs `[S, T, B]` by layer, as from `log_gradients`.
        lengths: of the sequences, `[B]`, or a mapping of layers to them; None means T.
    """
    parts = []
    for layer, profile in profiles.items():
        profile = np.moveaxis(np.asarray(profile), 0, 1)  # [T, S, B]
        own = lengths.get(layer) if isinstance(lengths, Mapping) else lengths
        ends = np.full(profile.shape[2], len(profile)) if own is None else np.asarray(own)
        lags = np.arange(ends.min())
        ends = jnp.broadcast_to(ends, profile.shape[1:])
        rows = np.asarray(diagnostics.by_lag(jnp.asarray(profile), ends, len(lags)))
        rows = rows.reshape(len(lags), -1)
        shares = rows - np.asarray(jax.nn.logsumexp(2 * rows, axis=0)) / 2
        parts.append({"layer": layer, "lag": lags, **diagnostics.quartiles(shares)})
    return parts


def reach(part: Mapping[str, Any]) -> float:
    """Return log10 of the median share at the earliest tenth of lags over that at the latest.

    About 0: the gradient reaches the beginning; -6: a millionth of it does; -inf: none.

    Args:
        part: one layer's part of `gradient_table`.
    """
    middle = np.asarray(part["median"]) / np.log(10)
    tenth = max(1, len(middle) // 10)
    return float(np.median(middle[-tenth:]) - np.median(middle[:tenth]))


def draw(run: Run) -> None:
    """Draw the figures that every application has: `gradients` and `training`."""
    from rnnjax import figures

    figure = figures.curves(
        run.read_table("gradients"),
        x="lag",
        series="layer",
        xlabel="lag k (steps back from the end)",
        ylabel="share of the gradient",
        natural_logs=True,
    )
    run.save_figure("gradients", figure)
    rows = run.read_rows("metrics.jsonl")
    steps = sorted({row["step"] for row in rows})
    if not steps:  # fewer than one record
        return
    losses = [np.array([row["loss"] for row in rows if row["step"] == step]) for step in steps]
    run.write_table(
        "training",
        [
            {"series": "training loss", "step": step, **diagnostics.quartiles(of_members)}
            for step, of_members in zip(steps, losses, strict=True)
        ],
    )
    figure = figures.curves(
        run.read_table("training"), x="step", series="series", xlabel="update", ylabel="loss"
    )
    run.save_figure("training", figure)


def save(run: Run, params: PyTree, preprocessing: Mapping[str, Any]) -> None:
    """Save what `--predict` needs: the parameters of all members, and what was fitted."""
    run.write_json("preprocessing.json", dict(preprocessing))
    place = run.shared("params")
    training.on_first_process(
        lambda: shutil.rmtree(place, ignore_errors=True)
    )  # of a stopped process
    checkpoint.save(place, params)


def restore(run: Run, init: Callable[[Any], PyTree], *, members: int) -> PyTree:
    """Return the first member's parameters from a finished run.

    Args:
        init: gives a member's parameters from a key; only their shapes are used.
        members: how many were trained.
    """
    one = jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0)))
    like = jax.tree.map(lambda a: jax.ShapeDtypeStruct((members, *a.shape), a.dtype), one)
    return jax.tree.map(lambda a: a[0], checkpoint.load(run.path / "params", like))


def lines(asked: str) -> list[str]:
    """Return the lines of the file that `asked` names, or else `asked` itself.

    Raises:
        ArgumentError: the file has no line, or is no text.
    """
    path = Path(asked)
    if not _is_file(path):
        return [asked]
    try:
        found = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ArgumentError(f"--predict: {asked} is not a text file in UTF-8") from None
    if not found:
        raise ArgumentError(f"--predict: {asked} is empty")
    return found


def existing(asked: str, what: str) -> Path:
    """Return the file that `asked` names.

    Raises:
        ArgumentError: there is no such file; `what` says in the message what it should be.
    """
    if not _is_file(Path(asked)):
        raise ArgumentError(f"--predict needs {what}, got {asked!r}, which is no file")
    return Path(asked)


def in_application(
    name: str,
    config: Options,
    measure: Callable[[Run], dict[str, Any]],
    answer: Callable[[Any, Run, str], Iterable[str]],
    drawing: Callable[[Run], None] = draw,
) -> Any:
    """Run an application, or with `--predict` ask a finished run; return the summary or answers.

    Args:
        name: of the application: without `--out` the directory is runs/NAME-DATE-TIME.
        measure: loads the data, trains, writes tables, calls `save`, and returns the summary.
        answer: of the finished run's own configuration, the run and the new input to lines, which
            are printed.
        drawing: draws the figures of a run from its tables.

    Raises:
        ArgumentError: as `in_run`; a package that ships the data is missing; prepared data are
            damaged; `--predict` finds no finished run in `--out`, or cannot use the input.
    """
    try:
        if config.predict is None:
            return in_run(name, config, measure, drawing)
        answers = []
        for line in answer(*_finished(name, config), config.predict):
            print(line)
            answers.append(line)
        return answers
    except ModuleNotFoundError as error:
        if "rnnjax[" not in str(error):
            raise
        raise ArgumentError(str(error)) from error
    except DamagedError as error:
        raise ArgumentError(str(error)) from error


def _finished(name, config):
    """Return the configuration of the finished run in `config.out`, and the run."""
    if config.out is None or not (config.out / "summary.json").exists():
        raise ArgumentError(f"--predict needs a finished run in --out, got {config.out}")
    run = Run(config.out)
    stored = run.read_json("config.json")
    names = {field.name for field in dataclasses.fields(config)}
    if stored.keys() != names or not (run.path / "params").exists():
        raise ArgumentError(f"--predict needs a run of {name} in --out; {config.out} is another")
    stored = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
    same = {"out": config.out, "overwrite": False, "redraw": False, "predict": None}
    return type(config)(**stored | same), run


def _is_file(path):
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for a name, or with a zero byte in it
        return False
