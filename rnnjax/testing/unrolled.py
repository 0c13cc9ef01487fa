"""Does `rnnjax.unroll` of the cell equal a Python loop, ignore padding, and compile once?"""

import copy
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rnnjax.recurrence.running import _unroll
from rnnjax.recurrence.sequential import unroll
from rnnjax.testing.comparing import CellError, name, same, with_gradients
from rnnjax.testing.problems import BATCH, TIME, narrow, wide
from rnnjax.testing.python_loop import python_loop

PyTree = Any

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
NOT_IN_THE_LOOP = "unroll", "checkpoint_every"  # they change no number


def check_loop(cell: Any, input_size: PyTree, key: Array) -> None:
    """Check values and gradients of `unroll` against `python_loop`, under every option."""
    with jax.enable_x64(True):
        cell, params, xs, carry = wide(cell, input_size, key)
        for option, given in OPTIONS.items():
            options = dict(given)
            if "seq_lengths" in options:
                options["seq_lengths"] = np.array(options["seq_lengths"])
            for flags in ("mask", "resets"):
                if flags in options:
                    steps = np.zeros((TIME, BATCH), bool)
                    for b, times in enumerate(options[flags]):
                        steps[list(times), b] = True
                    options[flags] = ~steps if flags == "mask" else steps
            loop_options = {k: v for k, v in options.items() if k not in NOT_IN_THE_LOOP}
            fast = functools.partial(unroll, cell, return_carries=True, **options)
            slow = functools.partial(python_loop, cell, **loop_options)
            where = f"rnnjax.unroll of {name(cell)} with {option} differs from a Python loop"
            got = jax.jit(with_gradients(fast))(params, xs, carry)
            same(got, with_gradients(slow)(params, xs, carry), 1e-9, where)


def check_padding(cell: Any, input_size: PyTree, key: Array) -> None:
    """Check that padding changes nothing, that its outputs are zeros, and length 0 no step."""
    lengths = np.array([3, 0])
    padding = np.arange(TIME)[:, None] >= lengths
    padding = np.expand_dims(padding, tuple(range(2, 2 + len(cell.input_shape(1)))))
    with jax.enable_x64(True):
        cell, params, xs, carry = wide(cell, input_size, key)
        for reverse in (False, True):
            options = {"seq_lengths": lengths, "reverse": reverse, "return_carries": True}
            run = functools.partial(unroll, cell, **options)
            run_with_gradients = jax.jit(with_gradients(run))
            want = run_with_gradients(params, xs, carry)
            for filling in (1e3, np.nan):
                padded = jax.tree.map(lambda x, f=filling: jnp.where(padding, f, x), xs)
                got = run_with_gradients(params, padded, carry)
                problem = f"Padding with {filling} changes the results of {name(cell)}"
                same(got, want, 1e-12, problem)
            final, outputs = want["final carry"], want["outputs"]
            problem = f"A sequence of length 0 does not leave the carry of {name(cell)} unchanged"
            empty, start = (jax.tree.map(lambda c: c[1], c) for c in (final, carry))
            same(empty, start, 0, problem)
            problem = f"{name(cell)} has outputs other than zero in the padding"
            same(outputs[3:], jnp.zeros_like(outputs[3:]), 0, problem)


def check_compiles_once(cell: Any, input_size: PyTree, key: Array) -> None:
    """Check that a second call with an equal cell reuses the compiled program."""
    with jax.enable_x64(False):
        params, xs, carry = narrow(cell, input_size, key)
        unroll(cell, params, xs, carry)
        compiled: Any = _unroll
        before = compiled._cache_size()
        unroll(copy.copy(cell), params, jax.tree.map(lambda x: 2 * x, xs), carry)
        if compiled._cache_size() != before:
            raise CellError(
                f"A second call of rnnjax.unroll with an equal {name(cell)} compiles again: it "
                "must be a value that hashes and compares by its hyperparameters."
            )
