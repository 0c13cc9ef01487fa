"""Does `rnnjax.unroll` of the cell equal a Python loop, ignore padding, and compile once?"""

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.recurrence.running import _unroll
from rnnjax.recurrence.sequential import unroll
from rnnjax.testing.comparing import (
    CellError,
    name,
    named_gradients,
    named_results,
    same,
    weights,
)
from rnnjax.testing.problems import BATCH, TIME, Problem, at, on_host
from rnnjax.testing.python_loop import loop_one_example, prepare

OPTIONS: dict[str, dict[str, Any]] = {
    "no options": {},
    "mask, resets and checkpoint_every=1": {
        "mask": ((0, 1, 4), (3, 6)),
        "masked_output": "last",
        "resets": ((2, 5), (0, 3)),
        "checkpoint_every": 1,
    },
    "truncate_every=3, checkpoint_every=3 and unroll=2": {
        "truncate_every": 3,
        "checkpoint_every": 3,
        "unroll": 2,
    },
    "reverse, seq_lengths and resets": {
        "reverse": True,
        "seq_lengths": (7, 0),
        "resets": ((1, 6), (2,)),
    },
    "all options": {
        "seq_lengths": (5, 7),
        "mask": ((1, 3), (6,)),
        "masked_output": 0.5,
        "resets": ((3,), (2, 6)),
        "reverse": True,
        "checkpoint_every": "sqrt",
        "truncate_every": 2,
    },
}
# The numbers of `mask` are the steps that are left out.
FLAGS = "seq_lengths", "mask", "resets"  # arrays
NOT_IN_THE_LOOP = "unroll", "checkpoint_every"  # they change no number


def check_loop(problem: Problem) -> None:
    """Check values and gradients of `unroll` against `python_loop`, under every option."""
    with jax.enable_x64(True):
        cell, params, xs, carry = problem.wide
        for option, given in OPTIONS.items():
            flags = {what: _array(what, given[what]) for what in FLAGS if what in given}
            options = {what: value for what, value in given.items() if what not in FLAGS}
            got = problem.program(**options)(params, xs, carry, flags)
            options = {k: v for k, v in options.items() if k not in NOT_IN_THE_LOOP}
            where = f"rnnjax.unroll of {name(cell)} with {option} differs from a Python loop"
            same(got, _loop_with_gradients(cell, params, xs, carry, flags, options), 1e-9, where)


def _array(what, given):
    if what == "seq_lengths":
        return np.array(given)
    steps = np.zeros((TIME, BATCH), bool)
    for b, times in enumerate(given):
        steps[list(times), b] = True
    return ~steps if what == "mask" else steps


def _loop_with_gradients(cell, params, xs, carry, flags, options):
    """Return what `with_gradients(python_loop)` does.

    Each example and each step is an argument of its own, cut and joined by NumPy: JAX would compile
    a program for each place at which it cuts an array, and another for its gradient.
    """
    xs, carry = on_host((xs, carry))
    steps = [[at(xs, (t, b, ...)) for t in range(TIME)] for b in range(BATCH)]
    starts = [at(carry, (b, ...)) for b in range(BATCH)]
    own = [
        {"length" if what == "seq_lengths" else what: a[..., b] for what, a in flags.items()}
        for b in range(BATCH)
    ]

    def loop(params, steps, starts):
        ready = prepare(cell, params)
        return [
            loop_one_example(
                cell, ready, steps[b].__getitem__, starts[b], TIME, **own[b], **options
            )
            for b in range(BATCH)
        ]

    results, pull = jax.vjp(loop, params, steps, starts)
    finals, outputs, carries = zip(*results, strict=True)
    joined = named_results((_join(finals), _join_steps(outputs), _join_steps(carries)))
    wanted = weights(joined)
    cotangents = [
        (
            at(wanted["final carry"], (b, ...)),
            [wanted["outputs"][t, b, ...] for t in range(TIME)],
            [at(wanted["carries"], (t, b, ...)) for t in range(TIME)],
        )
        for b in range(BATCH)
    ]
    of_params, of_steps, of_starts = pull(cotangents)
    return joined | named_gradients((of_params, _join_steps(of_steps), _join(of_starts)))


def _join(trees, axis=0):
    return jax.tree.map(lambda *leaves: np.stack([*map(np.asarray, leaves)], axis), *trees)


def _join_steps(examples):
    return _join([_join(steps) for steps in examples], axis=1)


def check_padding(problem: Problem) -> None:
    """Check that padding changes nothing, that its outputs are zeros, and length 0 no step."""
    lengths, never = np.array([3, 0]), np.zeros((TIME, BATCH), bool)
    padding = np.arange(TIME)[:, None] >= lengths
    trials: tuple[tuple[dict, dict], ...] = (
        ({}, {"seq_lengths": lengths}),
        ({"reverse": True}, {"seq_lengths": lengths, "resets": never}),  # a program of check_loop
    )
    with jax.enable_x64(True):
        cell, params, xs, carry = problem.wide
        xs, carry = on_host((xs, carry))
        for options, flags in trials:
            run = problem.program(**options)
            want = on_host(run(params, xs, carry, flags))
            for filling in (1e3, np.nan):
                padded = jax.tree.map(lambda x, f=filling: _filled(x, padding, f), xs)
                got = run(params, padded, carry, flags)
                broken = f"Padding with {filling} changes the results of {name(cell)}"
                same(got, want, 1e-12, broken)
            final, outputs = want["final carry"], want["outputs"]
            broken = f"A sequence of length 0 does not leave the carry of {name(cell)} unchanged"
            same(at(final, 1), at(carry, 1), 0, broken)
            broken = f"{name(cell)} has outputs other than zero in the padding"
            same(outputs[3:], np.zeros_like(outputs[3:]), 0, broken)


def _filled(x, where, value):
    x = x.copy()
    x[where] = value
    return x


def check_compiles_once(problem: Problem) -> None:
    """Check that a second call with an equal cell reuses the compiled program."""
    cell = problem.cell
    with jax.enable_x64(False):
        params, xs, carry = problem.narrow
        unroll(cell, params, xs, carry)
        compiled: Any = _unroll
        before = compiled._cache_size()
        twice = jax.tree.map(lambda x: jnp.asarray(2 * x), on_host(xs))
        unroll(copy.copy(cell), params, twice, carry)
        if compiled._cache_size() != before:
            raise CellError(
                f"A second call of rnnjax.unroll with an equal {name(cell)} compiles again: it "
                "must be a value that hashes and compares by its hyperparameters."
            )
