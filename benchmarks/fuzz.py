"""Altered run directories: what the same command, or another one, makes of them.

A small training is run to its end, and another is stopped half way. Copies of both are altered at
random: files are cut, overwritten, deleted, turned into folders, links and pipes; links point to a
folder outside; files are added. Then a command is given. It must end with an exit code that the
documentation names and at most a few lines, touch nothing outside, and lose no finished run. An
altered run answers `--predict` as before, or with one line that says why it does not.

    python benchmarks/fuzz.py
    python benchmarks/fuzz.py --count 100 --seed 7
"""

import contextlib
import dataclasses
import functools
import io
import os
import random
import shutil
import signal
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rnnjax import experiment, training
from rnnjax.command_line import at_least, parse, progress
from rnnjax.experiment import ApplicationOptions, Experiment, Verdict
from rnnjax.experiment.compilation_cache import compilation_cache

import jax
import jax.numpy as jnp
import numpy as np

EXIT_CODES = {0, 1, 2, 75, 130}
MOST_LINES = 12  # of standard error: each damaged checkpoint and each data file may have one
SECONDS = 120  # after which a command is taken to wait for ever
CONTENTS = (
    *(b"", b"[", b"[1]", b'"a"', b"{}", b"null", b"\xff\xfe\x00", b"[" * 200_000, b"9" * 5000),
    *(b"../outside/mine\n", b"..\n", b".\n", b"a\n\nb", b"config.json\n../outside\n", b"\x1b[2J"),
)
NAMES = (
    *(".lock", ".rnnjax", ".replaced", ".discarded", ".finished", ".history", "config.json"),
    *(
        ".config.json.unfinished",
        "training",
        "metrics.jsonl",
        "summary.json",
        "extra",
        "times.jsonl",
    ),
)
COMMANDS = {
    "the same": [],
    "another": ["--steps", "9"],
    "overwrite": ["--overwrite"],
    "redraw": ["--redraw"],
    "predict": ["--predict", "x"],
}


@dataclasses.dataclass(frozen=True)
class Learning(ApplicationOptions):
    """Learn a number."""

    steps: int = 6
    seeds: int = 2
    record_every: int = 2
    checkpoint_every: int = 2


class Interrupted(KeyboardInterrupt):
    """The training is stopped half way."""


def train_step(state: Any, batch: Any) -> Any:
    """Move towards a random number."""
    slope = state.params - batch
    state = state._replace(params=state.params - 0.1 * slope, step=state.step + 1)
    return state, {"loss": slope**2}


def measure(config: Learning, run: Any, stop_at: int | None = None) -> dict[str, Any]:
    """Train, and write what experiments write."""

    def observe(state):
        if stop_at is not None and int(state.step[0]) >= stop_at:
            raise Interrupted
        return state.params

    numbers = run.cached("numbers", lambda: {"x": np.arange(3.0)})["x"]
    keys = jnp.stack([jax.random.key(seed) for seed in config.members])
    count = len(config.members)
    state = training.TrainState(jnp.zeros(count), (), jnp.zeros(count, jnp.int32), keys)
    resumable = training.ResumableTraining.from_config(config, run, config.members, cell="one")
    trained = resumable.train_on_samples(
        train_step, state, jax.random.normal, steps=config.steps, chunk_size=3, observe=observe
    )
    experiment.save(run, {"x": trained.state.params}, {"names": ["a", "b"]})
    run.write_table("numbers", [{"x": numbers, "name": ["a", "=b", "c"]}])
    return {"params": trained.state.params}


def answer(config: Learning, run: Any, asked: str) -> Iterator[str]:
    """Yield the number that was learnt, and the names."""
    params = experiment.restore(run, lambda key: {"x": jnp.zeros(())}, members=config.seeds)
    names = run.read_json("preprocessing.json")["names"]
    yield f"{asked}: {float(params['x'])} {names} {config.learning_rate}"


def draw(run: Any) -> None:
    """Write a file from the table, as a figure is."""
    run.write_json("drawn.json", run.read_table("numbers")["x"].sum())


def experiment_of(stop_at: int | None = None) -> Experiment:
    """Return the experiment, which may be stopped after some updates."""
    return Experiment(
        "fuzz",
        Learning,
        lambda config, run: measure(config, run, stop_at),
        lambda config, summary: Verdict.inconclusive("nothing is claimed"),
        draw,
        answer=answer,
    )


def make_runs(place: Path) -> dict[str, Path]:
    """Make a finished run and an interrupted one."""
    runs = {"finished": place / "finished", "interrupted": place / "interrupted"}
    for name, path in runs.items():
        code, told, _ = command(path, [], None if name == "finished" else 3)
        assert code == (0 if name == "finished" else 130), told
    return runs


def command(path: Path, words: list[str], stop_at: int | None = None) -> tuple[Any, str, str]:
    """Run the experiment in a directory; return its exit code, its errors, and its output."""
    told, out = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(out), alarm():
        try:
            experiment_of(stop_at).main(["--out", str(path), "--no-compilation-cache", *words])
            code = 0
        except SystemExit as stop:
            code = stop.code
        except BaseException:
            code = None
            traceback.print_exc(file=told)
    return code, told.getvalue(), out.getvalue()


@functools.cache
def expected(finished: Path) -> str:
    """Return what the finished run answers while it is as it was."""
    code, told, out = command(finished, COMMANDS["predict"])
    assert code == 0 and not told, told
    return out


@contextlib.contextmanager
def alarm() -> Iterator[None]:
    """Raise a TimeoutError in a command that waits for ever."""

    def late(number, frame):
        raise TimeoutError(f"no end after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def alter(path: Path, outside: Path, draws: random.Random) -> str:
    """Alter something in a directory; return what was done."""
    entries = sorted(path.rglob("*"))
    target = draws.choice(entries) if draws.random() < 0.8 else path / draws.choice(NAMES)
    targets = {"file": outside / "mine", "folder": outside, "nothing": outside / "nothing"}
    kind = draws.choice(("cut", "flip", "content", "delete", "folder", "link", "pipe", "copy"))
    data = target.read_bytes() if target.is_file() and not target.is_symlink() else b"some text"
    if kind == "copy":
        source = draws.choice(entries)
        apart = target not in (source, *source.parents) and source not in target.parents
        if source.is_dir() and not source.is_symlink() and apart:
            remove(target)
            shutil.copytree(source, target, symlinks=True, ignore=pipes)
            return f"{target.relative_to(path)}: a copy of {source.relative_to(path)}"
        kind = "content"
    remove(target)
    if kind == "cut":
        target.write_bytes(data[: draws.randrange(len(data) + 1)])
    elif kind == "flip" and data:
        place = draws.randrange(len(data))
        changed = bytes([draws.randrange(256)])
        target.write_bytes(data[:place] + changed + data[place + 1 :])
    elif kind in ("content", "flip"):
        target.write_bytes(draws.choice(CONTENTS))
    elif kind == "folder":
        target.mkdir()
    elif kind == "link":
        kind = f"link to a {draws.choice(list(targets))}"
        target.symlink_to(targets[kind.rpartition(" ")[2]])
    elif kind == "pipe":
        os.mkfifo(target)
    return f"{target.relative_to(path)}: {kind}"


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def pipes(folder: str, names: list[str]) -> list[str]:
    """Return the names of what `copytree` would wait for."""
    return [name for name in names if (Path(folder) / name).is_fifo()]


def contents(path: Path) -> dict[str, bytes]:
    """Return the regular files below a directory."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and not file.is_symlink()
    }


def leftovers(name: str) -> bool:
    """Whether a file is one that any command may remove or write again."""
    return name.endswith(".unfinished") or name.split("/")[0] in {
        *(".lock", ".replaced", ".discarded", ".history", ".rnnjax", ".finished")
    }


def one(runs: dict[str, Path], place: Path, seed: int) -> str:
    """Alter a copy of a run and give a command; return what was done.

    Raises:
        AssertionError: the command did what it must not do; the message says what.
    """
    draws = random.Random(seed)
    outside, path = place / "outside", place / "run"
    outside.mkdir(parents=True)
    (outside / "mine").write_text("mine")
    (outside / "folder").mkdir()
    (outside / "folder" / "metrics.jsonl").write_text("mine")
    kind, name = draws.choice(list(runs)), draws.choice(list(COMMANDS))
    shutil.copytree(runs[kind], path)
    done = [alter(path, outside, draws) for _ in range(draws.randint(1, 3))]
    said = f"seed {seed}: {kind}; {'; '.join(done)}; {name}"
    inside, around = contents(path), contents(outside)
    code, told, out = command(path, COMMANDS[name])
    assert code in EXIT_CODES and "Traceback" not in told, f"{said}\n{code} {told}"
    assert len(told.splitlines()) <= MOST_LINES, f"{said}\n{told}"
    assert code == 0 or told.strip(), f"{said}: it says nothing"
    assert contents(outside) == around, f"{said}: it touched what is outside\n{told}"
    if name == "predict":
        assert code in (0, 2) and len(told.splitlines()) <= 1, f"{said}\n{code} {told}"
        as_before = kind == "finished" and out == expected(runs["finished"])
        assert code == 2 or as_before, f"{said}: it answers {out}"
        assert contents(path) == inside, f"{said}: it changed the run\n{told}"
    if kind == "finished" and name != "overwrite" and {".finished", ".rnnjax"} <= {*inside}:
        after = contents(path)
        assert ".finished" in after, f"{said}: it is no longer finished\n{told}"
        lost = [f for f, data in inside.items() if not leftovers(f) and after.get(f) != data]
        redrawn = {"drawn.json"} if name == "redraw" else set()
        assert not {*lost} - redrawn, f"{said}: it lost {lost}\n{told}"
    return said


@dataclasses.dataclass(frozen=True)
class Config:
    """Alter run directories at random, and check what commands make of them."""

    count: int = 10_000
    """How many directories."""
    seed: int = 0
    """Of the first; the others count up from it."""

    def __post_init__(self):
        at_least(1, self, "count")
        at_least(0, self, "seed")


def run(config: Config) -> int:
    """Alter and check; return how many commands did what they must not do."""
    failed = 0
    with tempfile.TemporaryDirectory() as folder, compilation_cache(Path(folder) / "programs"):
        runs = make_runs(Path(folder) / "runs")
        for seed in progress(range(config.seed, config.seed + config.count), "altered runs"):
            place = Path(folder) / "altered"
            try:
                one(runs, place, seed)
            except AssertionError as error:
                failed += 1
                print(error, flush=True)
            shutil.rmtree(place)
    print(f"{config.count - failed} of {config.count} altered run directories were handled")
    return failed


if __name__ == "__main__":
    raise SystemExit(1 if run(parse(Config)) else 0)
