"""Trials per second, beside neurogym's own sampling of the same tasks.

neurogym fills B sequences of T steps with trials, one after another, as its `Dataset` does; rnnjax
draws as many trials in a batch, inputs and labels, time-major. Before anything is timed, trials
without noise are compared with neurogym's for the same conditions, and the noise of samples with
its standard deviation.

    neurogym                 a neurogym.utils.data.Dataset with its defaults, iterated
    rnnjax, call by call     task.sample under jax.jit, called from Python for every batch
    rnnjax, in one program   the same inside lax.scan, as a training loop on the device has it

    anti         the anti task of Yang et al. 2019: no noise, 15 steps; neurogym's stimuli are all
                 in the first modality, since what chooses one of two costs it much more
    perceptual   perceptual decision making: 22 steps, of which 20 are noisy
    context      context-dependent decisions: a random delay, 14 to 40 steps
    long         perceptual decision making whose trial is one sequence of T steps

    python benchmarks/dynamics.py
    python benchmarks/dynamics.py --tasks perceptual --batches 100 --rounds 3

neurogym requires older releases of NumPy and Matplotlib than the library; without its requirements
it runs with these too:

    pip install --no-deps neurogym==2.3.1 gymnasium==0.29.1 farama-notifications
    pip install cloudpickle loguru natsort pydantic-settings tomlkit tqdm torch
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import timing

if __name__ == "__main__":
    timing.keep_memory()

from rnnjax.command_line import ArgumentError, at_least, parse
from rnnjax.tasks import trials
from rnnjax.tasks.trials.durations import step_table

import jax
import jax.numpy as jnp
import numpy as np
from libraries import LeftOut

TASKS = "anti", "perceptual", "context", "long"
CALLS, PROGRAM, THEIRS = "rnnjax, call by call", "rnnjax, in one program", "neurogym"
BOUND = 10
DT, SIGMA, UNITS = 100, 1.0, 16


@dataclasses.dataclass(frozen=True)
class Config:
    """Time batches of trials, and compare with neurogym's.

    The bound is that a batch takes neurogym at least ten times as long.
    """

    tasks: tuple[Literal[TASKS], ...] = TASKS  # pyright: ignore
    """Which tasks."""
    batches: int = 1000
    """Batches in each round."""
    batch_size: int = 16
    """B, sequences in a batch."""
    length: int = 100
    """T, steps of each sequence; at least 40, the longest trial."""
    rounds: int = 5
    """How often everything is timed, in turn; medians and quartiles are reported."""
    out: Path | None = None
    """Directory for dynamics.json."""
    docs: bool = False
    """Write the table into docs/benchmarks.md."""

    def __post_init__(self):
        at_least(1, self, "batches", "batch_size", "rounds")
        at_least(40, self, "length")
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise ArgumentError(f"--tasks must name some of {', '.join(TASKS)}, each once")
        timing.check_directory(self.out)


def import_peer(name: str) -> Any:
    """Return a module of neurogym.

    Raises:
        LeftOut: it, or something that it imports, is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = str(error.name).split(".")[0]
        raise LeftOut(f"{missing} is not installed") from None


def stimulus(config: Config) -> int:
    """Return the milliseconds of the stimulus in a trial of T steps."""
    return DT * (config.length - 2)


def our_task(config: Config, name: str, sigma: float = SIGMA) -> trials.TrialTask:
    """Return a task of ours."""
    if name == "anti":
        return trials.YangDelayedReach(rule="anti", turn=0.5, units=UNITS, dt=DT)
    if name == "context":
        return trials.ContextDecision(dt=DT, sigma=sigma, cue_epochs=("fixation",))
    if name == "perceptual":
        return trials.PerceptualDecision(dt=DT, sigma=sigma)
    return trials.PerceptualDecision(dt=DT, sigma=sigma, stimulus_ms=stimulus(config))


def their_task(config: Config, name: str, sigma: float = SIGMA) -> Any:
    """Return neurogym's task of the same definition.

    Raises:
        LeftOut: neurogym is not installed.
    """
    if name == "anti":
        module = import_peer("neurogym.envs.collections.yang19")
        return module.anti(dt=DT, dim_ring=UNITS).envs[0].unwrapped
    options: dict[str, Any] = {"dt": DT, "sigma": sigma}
    if name == "context":
        module = import_peer("neurogym.envs.native.contextdecisionmaking")
        return module.ContextDecisionMaking(use_expl_context=True, **options)
    if name == "long":
        options["timing"] = {"stimulus": stimulus(config)}
    module = import_peer("neurogym.envs.native.perceptualdecisionmaking")
    return module.PerceptualDecisionMaking(**options)


def their_trial(env: Any, name: str, drawn: trials.Trials, b: int) -> tuple[Any, Any]:
    """Return the inputs and labels of neurogym's trial under the conditions of our trial b."""
    given = {key: value[b].item() for key, value in drawn.conditions._asdict().items()}
    if name == "anti":
        env.new_trial(ground_truth=given["response"])
    elif name == "context":
        begin, end = (int(at[b]) for at in drawn.epochs["delay"])
        env.timing["delay"] = DT * (end - begin)
        first, second = 1 + given["choice_1"], 1 + given["choice_2"]
        right, other = (first, second) if given["context"] == 0 else (second, first)
        env.new_trial(
            ground_truth=right,
            other_choice=other,
            context=given["context"],
            coh_1=given["coherence_1"],
            coh_2=given["coherence_2"],
        )
    else:
        env.new_trial(ground_truth=given["choice"], coh=given["coherence"])
    return env.ob, env.gt


def check(config: Config, name: str) -> None:
    """Assert that trials are neurogym's, and have the noise of the definition."""
    clean, noisy = our_task(config, name, sigma=0), our_task(config, name)
    sample = jax.jit(lambda task, key: task.sample_trials(key, 64), static_argnums=0)
    key = jax.random.key(1)
    drawn, other = sample(clean, key), sample(noisy, key)
    env = their_task(config, name, sigma=0)
    for b in range(64):
        if name == "anti" and drawn.conditions.modality[b]:
            continue
        inputs, labels = their_trial(env, name, drawn, b)
        steps = int(drawn.batch.mask[:, b].sum())
        ours = np.asarray(drawn.batch.inputs[:steps, b, : inputs.shape[1]])
        np.testing.assert_allclose(ours, inputs, atol=1e-5, err_msg=name)
        np.testing.assert_array_equal(drawn.batch.targets[:steps, b], labels, err_msg=name)
    if name != "anti":
        noise = other.batch.inputs - drawn.batch.inputs
        begin, end = (int(at[0]) for at in drawn.epochs["stimulus"])
        found = float(jnp.std(noise[begin:end, :, noisy.noisy_units]))
        assert abs(found / noisy.step_sigma - 1) < 0.05, f"{name}: noise of {found}"


def trials_of_a_batch(config: Config, name: str) -> int:
    """Return how many trials B sequences of T steps hold, by the mean number of steps."""
    task, mean = our_task(config, name), 0.0
    for duration in task.durations.values():
        steps, odds = step_table(duration, task.dt)
        mean += float(steps @ odds)
    return round(config.batch_size * config.length / mean)


def our_ways(config: Config, name: str) -> dict[str, Callable[[], Any]]:
    """Return both ways of sampling all batches."""
    task, count = our_task(config, name), trials_of_a_batch(config, name)
    one = jax.jit(lambda key: task.sample(key, count)[:2])
    keys = jax.random.split(jax.random.key(0), config.batches)
    split = list(keys)

    @jax.jit
    def program(keys):
        def step(total, key):
            inputs, labels, _ = task.sample(key, count)
            return total + inputs.sum() + labels.sum(), None  # so that all of them are needed

        return jax.lax.scan(step, jnp.zeros(()), keys)[0]

    def calls():
        for key in split:
            batch = one(key)
        return batch

    return {CALLS: calls, PROGRAM: lambda: program(keys)}


def their_way(config: Config, name: str) -> Callable[[], Any]:
    """Return neurogym's way.

    Raises:
        LeftOut: neurogym is not installed.
    """
    env = their_task(config, name)
    data = import_peer("neurogym.utils.data")
    dataset = data.Dataset(env, batch_size=config.batch_size, seq_len=config.length)

    def iterate():
        for _ in range(config.batches):
            inputs, labels = next(dataset)
        return inputs, labels

    return iterate


def measure(config: Config, name: str) -> tuple[list[dict[str, Any]], str | None]:
    """Return a row for each way of sampling, and why neurogym's is missing."""
    ways, reason = our_ways(config, name), None
    try:
        ways[THEIRS] = their_way(config, name)
        check(config, name)
    except LeftOut as left_out:
        reason = str(left_out)
    seconds = timing.interleaved(ways, rounds=config.rounds)
    middle = {way: timing.median(times) for way, times in seconds.items()}
    count = config.batches * trials_of_a_batch(config, name)
    theirs = middle.get(THEIRS)
    return [
        {
            "task": name,
            "what": way,
            "seconds": middle[way],
            "quartiles_s": timing.quartiles(times),
            "trials_per_s": count / middle[way],
            "times_faster": theirs and theirs / middle[way],
        }
        for way, times in seconds.items()
    ], reason


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as the table has it."""
    return {
        "task": row["task"],
        "what": row["what"],
        "s": row["seconds"],
        "quartiles": "-".join(f"{q:.3g}" for q in row["quartiles_s"]),
        "trials per s": f"{row['trials_per_s']:,.0f}",
        "times faster than neurogym": row["times_faster"],
    }


def verdicts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each task that neurogym has run too: how it stands to the bound."""
    return [
        f"{row['task']}: {row['times_faster']:.1f} times as fast as neurogym, call by call: "
        f"{'within' if row['times_faster'] >= BOUND else 'beyond'} the bound of {BOUND}"
        for row in rows
        if row["what"] == CALLS and row["times_faster"]
    ]


def run(config: Config) -> list[dict[str, Any]]:
    """Time everything, print the table, and write the requested files."""
    rows, notes = [], []
    for name in config.tasks:
        timing.say(f"{name}: checking and timing")
        found, reason = measure(config, name)
        rows += found
        if reason:
            notes.append(f"{name} without neurogym: {reason}.")
    conditions = timing.conditions("neurogym")
    lines = [*verdicts(rows), *notes]
    table = timing.table([shown(row) for row in rows])
    print(table, *lines, conditions, sep="\n", flush=True)
    timing.write_json(config.out, "dynamics", {"conditions": conditions, "rows": rows})
    if config.docs:
        listed = "\n".join(f"- {line}" for line in lines)
        text = (
            f"`python benchmarks/dynamics.py`: {config.batches} batches of {config.batch_size} "
            f"x {config.length} steps, medians of {config.rounds} interleaved rounds. "
            "Trials without noise are those of neurogym, whose `Dataset` is iterated.\n\n"
            f"{table}\n\n{listed}\n\n{conditions}"
        )
        timing.write_section("Trials of tasks", text)
    return rows


if __name__ == "__main__":
    run(parse(Config))
