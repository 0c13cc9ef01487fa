"""Which published results on long-term dependencies come out again?

Claim: those that the rows of experiments/papers/rows.toml name. Each row is an experiment with a
claim, a published number and a verdict rule of its own; this script runs them one after another,
each in a process of its own with a time limit, and writes the card: docs/scorecard.md, with a
record and a figure of each row beside it. Nothing in the card is typed by hand.

A quick run uses the options in rows.toml, and takes up to 45 minutes on two CPU cores; --full runs
the rows as published. Runs lie in --rows. A row that is finished there is not run again; a row that
was stopped, by its limit or by a kill, goes on where it was. The card keeps the verdict of a full
run until there is a newer one.

Several machines: start the same command on each, with a shared --rows, and each takes rows that no
other one runs; or search over --only with `python -m rnnjax.sweep`, a trial for each row.

Verdict: `reproduced` if every row that ran is; `quick run only` if a row has only run quickly, else
`not reproduced`.

    python experiments/scorecard.py
    python experiments/scorecard.py --full --only hs97-order zo24-curse
    python experiments/scorecard.py --list
"""

import dataclasses
import functools
from pathlib import Path

from rnnjax import experiment, scorecard
from rnnjax.command_line import ArgumentError, distinct
from rnnjax.experiment import Outcome, RunOptions, Verdict
from rnnjax.runs import Run

HERE = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Config(RunOptions):
    """Run published results again, and write the card.

    Prints each row as it finishes, and writes summary.json, --card/scorecard.md and figures.
    """

    only: tuple[str, ...] = ()
    """Ids of the rows to run [default: all]."""
    full: bool = False
    """Run rows as published, not with the options of a quick run."""
    list: bool = False
    """Print what each row asks, its time and its last verdict, and stop."""
    rows: Path = Path("runs") / "scorecard"
    """Directory of the rows' runs."""
    card: Path = HERE.parent / "docs"
    """Directory of scorecard.md."""

    def __post_init__(self):
        super().__post_init__()
        if self.only:
            distinct(self, "only")
        for name in self.only:
            if name not in self.known:
                raise ArgumentError(f"--only must be among {', '.join(self.known)}; got {name}")

    @functools.cached_property
    def known(self):
        return scorecard.load_rows(HERE / "papers" / "rows.toml")


def measure(config, run):
    if config.list:
        kept = scorecard.load_records(config.card / "scorecard", config.known)
        print(scorecard.listing(config.known, kept))
        raise SystemExit
    folder = config.rows / ("full" if config.full else "quick")
    rows = {
        name: row for name, row in config.known.items() if name in (config.only or config.known)
    }
    records = {}
    for number, (name, row) in enumerate(rows.items(), 1):
        record = records[name] = scorecard.run_row(row, folder, full=config.full)
        _, *said = scorecard.line(row, record)
        print(f"{number:2} of {len(rows)}  {name:22}", *filter(None, said), sep="  ", flush=True)
        if record.outcome != "runs elsewhere":
            figure = folder / name / f"{row.figure}.png"
            figures = {name: figure} if figure.exists() else {}
            scorecard.write_card(config.card, config.known, [record], figures)
    return {"rows": {name: dataclasses.asdict(record) for name, record in records.items()}}


def verdict(config, summary):
    del config
    outcomes = {name: of["outcome"] for name, of in summary["rows"].items()}
    found = Verdict.judge({name: outcome == "reproduced" for name, outcome in outcomes.items()})
    quick = [name for name, outcome in outcomes.items() if outcome == Outcome.QUICK_RUN_ONLY]
    if not quick:
        return found
    return Verdict(Outcome.QUICK_RUN_ONLY, found.conditions, f"{', '.join(quick)} ran quickly")


def draw(run: Run):
    """The figures are those of the rows, beside the card."""


run = experiment.Experiment("scorecard", Config, measure, verdict, draw)

if __name__ == "__main__":
    run.main()
