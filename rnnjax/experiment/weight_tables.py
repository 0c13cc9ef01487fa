"""Weights and their gradients over training: as tables, as figures, and how many are dead.

Tables, a row for each entry:

eigenvalues, singular_values   of each gate's recurrent block, by step
histograms                     of each kernel's block, before and after training
blocks                         the entries of the first seed's blocks, before and after

Weights are the effective ones, `cell.prepare(params)`, with which the cell computes. Gradients are
those of the raw parameters.
"""

import collections
import textwrap
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from rnnjax import diagnostics, networks
from rnnjax.diagnostics import weights
from rnnjax.experiment.tables import PHASES, Tables, select

WHAT = {"weights": ("weights", "weight"), "gradient": ("gradient", "|gradient|")}


def record(tables: Tables, name: str, cell: Any, trained: Any) -> dict[str, Any]:
    """Add a cell's weights and gradients to the tables, and return `health` of all its parameters.

    Args:
        tables: lists of rows by name.
        name: of the cell, in the tables.
        trained: a `training.TrainingResult`. What it observed has `weights` and `gradient`, a
            `readout.Readout` of all seeds each.
    """
    history = trained.observed()
    for step, found in history.items():
        record_spectra(tables, name, cell, step, found["weights"].cell)
    first, *_, last = history.values()
    ready = [weights.effective_params(cell, end["weights"].cell, 1) for end in (first, last)]
    raw = [end["gradient"].cell for end in (first, last)]
    for what, ends in (("weights", ready), ("gradient", raw)):
        record_weights(tables, name, cell, what, dict(zip(("before", "after"), ends, strict=True)))
    gradients = [found["gradient"] for found in history.values()]
    return health(
        last["weights"]._replace(cell=ready[1]),
        jax.tree.map(lambda *steps: np.stack(steps), *gradients),
    )


def record_spectra(tables: Tables, name: str, cell: Any, step: int, params: Any) -> None:
    """Add the spectra of the recurrent blocks: eigenvalues of the first seed, singular values.

    Nothing is added of a cell that is not gated, or whose blocks are not square.

    Args:
        tables: lists of rows by name.
        name: of the cell, in the tables.
        params: raw, of all seeds, `[S, ...]`; the blocks are those of the effective kernel.
    """
    try:
        spectra = weights.block_spectra(cell, params, 1)
    except (TypeError, ValueError):
        return
    for gate, spectrum in spectra.items():
        place = {"cell": name, "gate": gate, "step": step}
        first = spectrum.eigenvalues[0]
        tables["eigenvalues"].append({**place, "real": first.real, "imag": first.imag})
        values = np.median(spectrum.singular_values, axis=0)
        rank = np.arange(1, len(values) + 1)
        tables["singular_values"].append({**place, "rank": rank, "value": values})


def record_weights(tables: Tables, name: str, cell: Any, what: str, by_phase: Any) -> None:
    """Add histograms and all blocks of a cell's parameters, or of their gradients.

    Args:
        tables, name, cell: as for `record_spectra`.
        what: `weights` or `gradient`; histograms of gradients have logarithmic bins.
        by_phase: effective parameters of all seeds `[S, ...]`, or gradients, by `before` and
            `after`.
    """
    count = diagnostics.log_histogram if what == "gradient" else diagnostics.histogram
    phases = [weights.by_gate(cell, params) for params in by_phase.values()]
    for kernel, gate in ((k, g) for k, gates in phases[0].items() for g in gates):
        blocks = dict(zip(by_phase, (phase[kernel][gate] for phase in phases), strict=True))
        entries = blocks["before"][0].size
        for phase, found in count(blocks, bins=min(50, 10 + entries // 25)).items():
            place = {"what": what, "cell": name, "kernel": kernel, "gate": gate, "phase": phase}
            row = {"low": found.edges[:-1], "high": found.edges[1:]}
            row |= diagnostics.quartiles(found.counts.T)
            row |= {"zero": found.zero.mean(), "not_finite": found.not_finite.mean()}
            tables["histograms"].append(place | row)
            for part, first in _parts(blocks[phase][0]).items():
                row, column = np.indices(first.shape).reshape(2, -1)
                row = {"row": row, "column": column, "value": first.ravel()}
                tables["blocks"].append(place | {"kernel": kernel + part} | row)


def _parts(block):
    """Return a block as matrices by the ends of their names: two of a complex one, heads below."""
    matrix: Any = np.atleast_2d(block).reshape(-1, block.shape[-1] if block.ndim else 1)
    return {".real": matrix.real, ".imag": matrix.imag} if np.iscomplexobj(matrix) else {"": matrix}


def health(params: Any, gradients: Any) -> dict[str, Any]:
    """Return how many entries of each parameter and gradient are NaN, infinite or dead.

    Args:
        params: effective, of all seeds, `[S, ...]`.
        gradients: with respect to the raw ones, of all steps and seeds, `[T, S, ...]`; dead is what
            is zero at every step.
    """
    found = {
        "weights": weights.health(params),
        "gradients": weights.health(gradients, leading=1),
    }
    return {
        what: {path: row._asdict() for path, row in rows.items()} for what, rows in found.items()
    }


def print_health(name: str, entry: Mapping[str, Any]) -> None:
    """Print in one line that all is well, or a line for each parameter that is not."""
    found = {
        f"{what} {path}": weights.Health(**row)
        for what, rows in entry.items()
        for path, row in rows.items()
    }
    ill = {path: row for path, row in found.items() if any(row[1:])}
    entries = f"{sum(row.size for row in found.values())} entries of weights and gradients"
    summary = "of which" if ill else "all finite, none dead"
    print(f"{networks.label(name)}: {entries}, {summary}")
    if ill:
        print(textwrap.indent(weights.health_report(ill), "  "))


def draw_weights(run: Any, name: str) -> None:
    """Draw a cell's weights, their gradients, and the spectra of its recurrent blocks."""
    from rnnjax import figures

    def save(figure_name, figure, title):
        figure.suptitle(f"{networks.label(name)}: {title}")
        run.save_figure(f"{name}_{figure_name}", figure)

    for spectrum in ("eigenvalues", "singular_values"):
        known = run.has_table(spectrum)
        table = select(run.read_table(spectrum), cell=name) if known else {"gate": []}
        if len(table["gate"]):
            title = f"{spectrum.replace('_', ' ')} of recurrent blocks"
            save(spectrum, getattr(figures, spectrum)(table), title)
    histograms = select(run.read_table("histograms"), cell=name)
    blocks = select(run.read_table("blocks"), cell=name, phase="after")
    for what, (label, scale) in WHAT.items():
        own = select(histograms, what=what)
        for kernel in (k for k in dict.fromkeys(own["kernel"].tolist()) if "bias" not in k):
            figure = figures.histograms(
                select(own, kernel=kernel),
                "phase",
                panel="gate",
                names=PHASES,
                xlabel=scale,
                log_x=what == "gradient",
            )
            save(f"{what}_{kernel}", figure, f"{label} of the {kernel.replace('_', ' ')}")
        figure = figures.block_maps(unpack(select(blocks, what=what)))
        save(f"{what}_maps", figure, f"{label} after training")


def unpack(table: Mapping[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """Return kernel -> gate -> block of rows of the table `blocks`."""
    found: dict[str, dict[str, np.ndarray]] = collections.defaultdict(dict)
    for kernel, gate in dict.fromkeys(zip(table["kernel"], table["gate"], strict=True)):
        part = select(table, kernel=kernel, gate=gate)
        row, column = part["row"].astype(int), part["column"].astype(int)
        block = np.empty((row.max() + 1, column.max() + 1))
        block[row, column] = part["value"]
        found[kernel][gate] = block
    return found
