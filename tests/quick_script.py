"""A script that keeps the contract of experiments, in pure Python, for tests of sweeps.

It writes a line to the file `notes` in its folder when it starts, is asked to stop, and ends. When
it is started again it resumes after the steps in its metrics.jsonl. A network of one's own,
`PATH.py:NAME`, must be a file that it finds.
"""

import dataclasses
import fcntl
import json
import os
import signal
import sys
import time
import types
from pathlib import Path
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Config:
    """Approach (x - 1)^2 + (n - 4)^2."""

    x: float = 0.0
    n: int = 4
    cells: tuple[Literal["elman", "lstm", "gru"], ...] = ("lstm",)
    name: Literal["good", "refused", "non-finite", "killed", "nan", "silent"] = "good"
    twice: bool = False
    length: int | None = None
    steps: int = 3
    pause: float = 0.0
    wait_for: str = ""
    network: str = "lstm"
    out: Path | None = None
    mesh: str | None = None
    checkpoint_every: int = 100

    def __post_init__(self):
        if self.n < 0:
            from rnnjax.command_line import ArgumentError

            raise ArgumentError(f"--n must be at least 0, got {self.n}")


def parse(words):
    """Parse without tyro, whose import takes longer than all the rest."""
    given, defaults = {}, {f.name: f.default for f in dataclasses.fields(Config)}
    for word in words:
        if word.startswith("--"):
            name, flag = word[2:].removeprefix("no-").replace("-", "_"), word[:5] != "--no-"
            given[name] = flag if name == "twice" else []
        else:
            given[name].append(word)
    kinds = {"x": float, "pause": float, "n": int, "steps": int}
    for name, values in given.items():
        if isinstance(values, list):
            given[name] = values if name == "cells" else kinds.get(name, str)(values[0])
    return types.SimpleNamespace(**{**defaults, **given})


def main(config):
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    lock = open(out / ".lock", "a")  # noqa: SIM115
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit(75)
    if (out / "summary.json").exists():
        return

    def note(what):
        with open(out / "notes", "a") as file:
            file.write(f"{what} {os.getpid()}\n")

    def stop(*_):
        note("stopped")
        sys.exit(143)

    signal.signal(signal.SIGTERM, stop)
    note("started")
    path, colon, _ = config.network.rpartition(":")
    if colon and not Path(path).is_file():
        sys.exit(f"error: there is no file {path}")
    while config.wait_for and not Path(config.wait_for).exists():
        time.sleep(0.01)
    loss = (config.x - 1) ** 2 + (config.n - 4) ** 2
    metrics = out / "metrics.jsonl"
    done = metrics.read_text().count("\n") // 3 if metrics.exists() else 0
    for step in range(done + 1, config.steps + 1):
        time.sleep(config.pause)
        rows = [
            {"cell": config.cells[0], "seed": seed, "step": step, "loss": loss + seed + 1 / step}
            for seed in range(3)
        ]
        with open(metrics, "a") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
    if config.name in ("refused", "non-finite"):
        print("some output\nerror: the loss became nan at step 3", file=sys.stderr)
        sys.exit(2 if config.name == "refused" else 1)
    if config.name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    values = [loss, loss + 1, float("nan") if config.name == "nan" else loss + 2]
    if config.name != "silent":
        (out / "unfinished").write_text(
            json.dumps(
                {config.cells[0]: {"loss": loss, "all": values}, "verdict": {"outcome": "quick"}}
            )
        )
        (out / "unfinished").replace(out / "summary.json")
    note("ended")


if __name__ == "__main__":
    main(parse(sys.argv[1:]))
