"""What anyone who writes a cell calls in their own tests: `check_cell(cell, input_size)`."""

import copy
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from rnnjax.cells.base import Cell
from rnnjax.recurrence.sequential import _unroll, unroll

PyTree = Any

TIME, BATCH = 7, 2
OPTIONS: dict[str, dict[str, Any]] = {
    "no options": {},
    "seq_lengths": {"seq_lengths": (4, 0)},
    "resets": {"resets": ((2, 5), (0, 3))},
    "reverse": {"reverse": True},
    "truncate_every=3": {"truncate_every": 3},
    "checkpoint_every=3 and unroll=2": {"checkpoint_every": 3, "unroll": 2},
    "reverse, lengths and resets": {
        "reverse": True,
        "seq_lengths": (7, 3),
        "resets": ((1, 6), (2,)),
    },
    "all options": {
        "seq_lengths": (5, 7),
        "resets": ((3,), (2, 6)),
        "reverse": True,
        "checkpoint_every": "sqrt",
        "truncate_every": 2,
    },
}


class CellError(AssertionError):
    """What a cell broke, in one sentence."""


def check_cell(cell: Cell, input_size: int, *, seed: int = 0) -> None:
    """Check that a cell keeps every promise that `rnnjax.unroll` and the diagnostics rely on.

    In order: it is a hashable value with pure methods; `init` is a function of its key; every
    method takes any batch shape and mixes neither examples nor time steps; `unroll` equals
    `python_loop` in values and gradients under every option; gradients equal float64 finite
    differences; padding, NaN included, changes nothing; bfloat16 works with a float32 carry; and a
    second call with an equal cell does not compile again. Takes seconds.

    Args:
        cell: the cell; keep it small (5 features, say).
        input_size: D of the random inputs that it is tried on.
        seed: of the random parameters and inputs.

    Raises:
        CellError: (an AssertionError) the first promise that is broken, in one sentence.
    """
    key = jax.random.key(seed)
    for check in (
        _check_value,
        _check_init,
        _check_purity,
        _check_batches,
        _check_loop,
        _check_finite_differences,
        _check_padding,
        _check_bfloat16,
        _check_compiles_once,
    ):
        try:
            check(cell, input_size, key)
        except CellError:
            raise
        except Exception as error:
            reason = str(error).strip().split("\n")[0]
            raise CellError(
                f"{_name(cell)} fails in {check.__name__.removeprefix('_check_')}: "
                f"{type(error).__name__}: {reason}"
            ) from error


def python_loop(
    cell: Cell,
    params: PyTree,
    xs: Array,
    initial_carry: PyTree,
    *,
    seq_lengths: Any = None,
    resets: Any = None,
    reverse: bool = False,
    truncate_every: int | None = None,
) -> tuple[PyTree, Array, PyTree]:
    """Run a cell as a textbook would, one example and one step at a time: the oracle of `unroll`.

    Takes `xs [T, B, D]` and a carry with leaves `[B, ...]`; `seq_lengths [B]` and `resets [T, B]`
    must be concrete. Returns `(final_carry, outputs, carries)` as `unroll(return_carries=True)`
    does.
    """
    advance, ready = functools.partial(_advance, cell), cell.prepare(params)
    total, batch = xs.shape[:2]
    results = []
    for b in range(batch):
        state = jax.tree.map(lambda c, b=b: c[b], initial_carry)
        dtypes = jax.tree.map(lambda c: c.dtype, state)
        length = total if seq_lengths is None else int(seq_lengths[b])
        outputs: list[Any] = [None] * total
        carries: list[Any] = [None] * total
        done = 0
        for t in reversed(range(total)) if reverse else range(total):
            if t < length:
                if truncate_every and done and done % truncate_every == 0:
                    state = lax.stop_gradient(state)
                if resets is not None and resets[t, b]:
                    state = jax.tree.map(lambda s, d: s.astype(d), cell.initial_carry(()), dtypes)
                state, outputs[t] = advance(ready, state, xs[t, b])
                done += 1
            carries[t] = state
        shape = jax.eval_shape(lambda s: cell.output(s), state)
        blank = jnp.zeros(shape.shape, shape.dtype)
        outputs = [blank if y is None else y for y in outputs]
        results.append((state, jnp.stack(outputs), _stack(carries)))
    final = _stack([r[0] for r in results])
    return final, *(_stack([r[i] for r in results], axis=1) for i in (1, 2))


@functools.partial(jax.jit, static_argnums=0)
def _advance(cell, ready, carry, x):
    carry = cell.step(ready, carry, cell.project(ready, x))
    return carry, cell.output(carry)


def _check_value(cell, input_size, key):
    del input_size, key
    if not isinstance(cell, Cell):
        raise CellError(f"{_name(cell)} is not a subclass of rnnjax.Cell.")
    try:
        hash(cell)
    except TypeError as error:
        raise CellError(
            f"{_name(cell)} is not hashable ({error}): make it a frozen dataclass of "
            "hyperparameters that holds no arrays."
        ) from None
    twin = copy.copy(cell)
    if twin != cell or hash(twin) != hash(cell):
        raise CellError(
            f"{_name(cell)} and its copy are not equal with equal hashes, so every new instance "
            "would compile again: make it a frozen dataclass with hashable fields."
        )


def _check_init(cell, input_size, key):
    params = cell.init(key, input_size)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        where = f"{_name(cell)}.init{jax.tree_util.keystr(path)}"
        if not isinstance(leaf, jax.Array) or not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise CellError(f"{where} is not a floating-point array, so it cannot be trained.")
        if not bool(jnp.isfinite(leaf).all()):
            raise CellError(f"{where} holds values that are not finite.")
    problem = f"{_name(cell)}.init gives different parameters for the same key"
    _same(params, cell.init(key, input_size), 0, problem)


def _check_purity(cell, input_size, key):
    params, xs, carry = _problem(cell, input_size, key)
    ready = cell.prepare(params)
    us = cell.project(ready, xs[0])
    structures = [jax.tree.structure(c) for c in (cell.step(ready, carry, us), carry)]
    if structures[0] != structures[1]:
        raise CellError(
            f"{_name(cell)}.step returns a carry of the structure {structures[0]}, where "
            f"initial_carry has {structures[1]}."
        )
    trials = {
        "prepare": (cell.prepare, (params,)),
        "project": (cell.project, (ready, xs[0])),
        "step": (cell.step, (ready, carry, us)),
        "output": (cell.output, (carry,)),
    }
    for name, (method, args) in trials.items():
        first = method(*args)
        problem = f"{_name(cell)}.{name} is not a pure function"
        _same(first, method(*args), 0, f"{problem}: two calls with the same arguments differ")
        with jax.checking_leaks():
            jitted = jax.jit(lambda *args, method=method: method(*args))(*args)
        _same(first, jitted, 1e-5, f"{problem}: under jax.jit it gives something else")


def _check_batches(cell, input_size, key):
    batch = (3, 2)
    for (path, one), many in zip(
        jax.tree_util.tree_leaves_with_path(cell.initial_carry(())),
        jax.tree.leaves(cell.initial_carry(batch)),
        strict=True,
    ):
        if many.shape != (*batch, *one.shape):
            raise CellError(
                f"{_name(cell)}.initial_carry({batch}){jax.tree_util.keystr(path)} has shape "
                f"{many.shape}, which is not the batch shape and then the {one.shape} of one "
                "example."
            )
    with jax.enable_x64(True):
        cell, params = _in_float64(cell, input_size, key)
        xs = jax.random.normal(key, (TIME, *batch, input_size), jnp.float64)
        carry = _random_carry(cell, batch, key)
        ready = cell.prepare(params)

        def run(xs, carry):
            us = cell.project(ready, xs)
            new = cell.step(ready, carry, us)
            return us, new, cell.output(new)

        whole = run(xs[0], carry)
        names = "project", "step", "output"
        for index in np.ndindex(batch):
            alone = run(xs[0][index], jax.tree.map(lambda c, i=index: c[i], carry))
            for name, one, all_ in zip(names, alone, whole, strict=True):
                for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(all_), strict=True):
                    if b.shape != (*batch, *a.shape):
                        raise CellError(
                            f"{_name(cell)}.{name} is not batch-polymorphic: it gives shape "
                            f"{b.shape} for a batch {batch} and {a.shape} for one example."
                        )
                here = jax.tree.map(lambda a, i=index: a[i], all_)
                problem = f"{_name(cell)}.{name} mixes the examples of a batch"
                _same(here, one, 1e-9, f"{problem}: an example alone gives something else")
        many = cell.project(ready, xs)
        single = _stack([cell.project(ready, x) for x in xs])
        problem = f"{_name(cell)}.project mixes time steps"
        _same(many, single, 1e-9, f"{problem}: all steps at once differ from one at a time")


def _check_loop(cell, input_size, key):
    with jax.enable_x64(True):
        cell, params = _in_float64(cell, input_size, key)
        xs = jax.random.normal(key, (TIME, BATCH, input_size), jnp.float64)
        carry = _random_carry(cell, (BATCH,), key)
        for option, given in OPTIONS.items():
            options = dict(given)
            if "seq_lengths" in options:
                options["seq_lengths"] = np.array(options["seq_lengths"])
            if "resets" in options:
                resets = np.zeros((TIME, BATCH), bool)
                for b, steps in enumerate(options["resets"]):
                    resets[list(steps), b] = True
                options["resets"] = resets
            loop_options = {
                name: value
                for name, value in options.items()
                if name not in ("unroll", "checkpoint_every")
            }
            fast = functools.partial(unroll, cell, return_carries=True, **options)
            slow = functools.partial(python_loop, cell, **loop_options)
            where = f"rnnjax.unroll of {_name(cell)} with {option} differs from a Python loop"
            got = jax.jit(_with_gradients(fast))(params, xs, carry)
            _same(got, _with_gradients(slow)(params, xs, carry), 1e-9, where)


def _check_finite_differences(cell, input_size, key):
    with jax.enable_x64(True):
        cell, params = _in_float64(cell, input_size, key)
        xs = jax.random.normal(key, (TIME, BATCH, input_size), jnp.float64)
        carry = _random_carry(cell, (BATCH,), key)
        arguments = {"params": params, "inputs": xs, "initial carry": carry}

        @jax.jit
        def loss(arguments):
            start = arguments["params"], arguments["inputs"], arguments["initial carry"]
            return _weighted_sum(unroll(cell, *start, return_carries=True))

        gradient = jax.grad(loss, allow_int=True)(arguments)
        leaves, structure = jax.tree.flatten(arguments)
        slopes = jax.tree.leaves(gradient)
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(arguments)]
        for i, leaf in enumerate(leaves):
            if not jnp.issubdtype(leaf.dtype, jnp.inexact):
                continue
            direction = jax.random.normal(jax.random.fold_in(key, i), leaf.shape, leaf.dtype)
            # A step and its half: Richardson's combination cancels the error of second order.
            centred = []
            for size in (1e-4, 5e-5):
                moved = [
                    structure.unflatten([*leaves[:i], leaf + s * direction, *leaves[i + 1 :]])
                    for s in (size, -size)
                ]
                centred.append((loss(moved[0]) - loss(moved[1])) / (2 * size))
            expected = float((4 * centred[1] - centred[0]) / 3)
            got = float(jnp.sum(slopes[i] * direction))
            if not abs(got - expected) <= 1e-6 * max(1.0, abs(expected)):
                what, *rest = paths[i]
                raise CellError(
                    f"The gradient of {_name(cell)} with respect to its {what.key}"
                    f"{jax.tree_util.keystr(tuple(rest))} is wrong: {got:.8g} along a random "
                    f"direction, where float64 finite differences give {expected:.8g}."
                )


def _check_padding(cell, input_size, key):
    lengths = np.array([3, 0])
    padding = np.arange(TIME)[:, None, None] >= lengths[:, None]
    with jax.enable_x64(True):
        cell, params = _in_float64(cell, input_size, key)
        xs = jax.random.normal(key, (TIME, BATCH, input_size), jnp.float64)
        carry = _random_carry(cell, (BATCH,), key)
        for reverse in (False, True):
            options = {"seq_lengths": lengths, "reverse": reverse, "return_carries": True}
            run = functools.partial(unroll, cell, **options)
            run_with_gradients = jax.jit(_with_gradients(run))
            want = run_with_gradients(params, xs, carry)
            for filling in (1e3, np.nan):
                got = run_with_gradients(params, jnp.where(padding, filling, xs), carry)
                _same(got, want, 1e-12, f"Padding with {filling} changes what {_name(cell)} gives")
            final, outputs = want["final carry"], want["outputs"]
            problem = f"A sequence of length 0 does not leave the carry of {_name(cell)} unchanged"
            empty, start = (jax.tree.map(lambda c: c[1], c) for c in (final, carry))
            _same(empty, start, 0, problem)
            problem = f"{_name(cell)} emits something other than zeros in the padding"
            _same(outputs[3:], jnp.zeros_like(outputs[3:]), 0, problem)


def _check_bfloat16(cell, input_size, key):
    params, xs, carry = _problem(cell, input_size, key)
    exact = unroll(cell, params, xs, carry)[1]
    trials = {"bfloat16 inputs": (cell, xs.astype(jnp.bfloat16))}
    if any(field.name == "dtype" for field in _fields(cell)):
        trials["dtype=bfloat16"] = (dataclasses.replace(cell, dtype=jnp.bfloat16), xs)
    for trial, (low, inputs) in trials.items():
        final, outputs = unroll(low, params, inputs, carry)
        for (path, got), want in zip(
            jax.tree_util.tree_leaves_with_path(final), jax.tree.leaves(carry), strict=True
        ):
            if got.dtype != want.dtype:
                raise CellError(
                    f"With {trial} and float32 parameters the carry of {_name(cell)} becomes "
                    f"{got.dtype} at {jax.tree_util.keystr(path)} instead of {want.dtype}."
                )
        scale = float(jnp.abs(exact).max())
        error = float(jnp.abs(outputs.astype(exact.dtype) - exact).max())
        if not error <= 0.1 * scale:
            raise CellError(
                f"With {trial} the outputs of {_name(cell)} are off by {error:.2g}, "
                f"over 10 % of their largest value {scale:.2g}."
            )


def _check_compiles_once(cell, input_size, key):
    params, xs, carry = _problem(cell, input_size, key)
    unroll(cell, params, xs, carry)
    compiled: Any = _unroll
    before = compiled._cache_size()
    unroll(copy.copy(cell), params, 2 * xs, carry)
    if compiled._cache_size() != before:
        raise CellError(
            f"A second call of rnnjax.unroll with an equal {_name(cell)} compiles again: it must "
            "be a value that hashes and compares by its hyperparameters."
        )


def _problem(cell, input_size, key):
    """Return float32 parameters, inputs and a carry for the cell."""
    xs = jax.random.normal(key, (TIME, BATCH, input_size), jnp.float32)
    params = cell.init(key, input_size)
    return params, xs, _random_carry(cell, (BATCH,), key, jnp.float32)


def _in_float64(cell, input_size, key):
    """Return the cell computing in float64 and parameters of that type, away from special values.

    Biases start at zero and gates near their middle; some noise makes every term count.
    """
    changes = {"dtype": None, "param_dtype": jnp.float64}
    changes = {f.name: changes[f.name] for f in _fields(cell) if f.name in changes}
    leaves, structure = jax.tree.flatten(cell.init(key, input_size))
    keys = jax.random.split(key, max(1, len(leaves)))
    noisy = [
        leaf.astype(jnp.float64) + 0.1 * jax.random.normal(k, leaf.shape, jnp.float64)
        for leaf, k in zip(leaves, keys, strict=False)
    ]
    cell = dataclasses.replace(cell, **changes) if changes else cell
    return cell, structure.unflatten(noisy)


def _random_carry(cell, batch, key, dtype=jnp.float64):
    """Return the initial carry plus noise, with its floating leaves in `dtype`."""
    leaves, structure = jax.tree.flatten(cell.initial_carry(batch))
    keys = jax.random.split(key, max(1, len(leaves)))
    noisy = [
        leaf.astype(dtype) + 0.3 * jax.random.normal(k, leaf.shape, dtype)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
        else leaf
        for leaf, k in zip(leaves, keys, strict=False)
    ]
    return structure.unflatten(noisy)


def _weighted_sum(tree) -> Array:
    """Return a scalar that depends on every floating entry of a tree, each with its own weight."""
    floats = [a for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.inexact)]
    weighted = (a * np.cos(np.arange(a.size).reshape(a.shape) + 0.5) for a in floats)
    return sum(map(jnp.sum, weighted), jnp.zeros(()))


def _with_gradients(run):
    """Return a function that gives what `run` does, by name, and the gradients of a sum of it."""

    def loss(params, xs, carry):
        final, outputs, carries = run(params, xs, carry)
        results = {"final carry": final, "outputs": outputs, "carries": carries}
        return _weighted_sum(results), results

    def both(params, xs, carry):
        (_, results), gradients = jax.value_and_grad(loss, (0, 1, 2), has_aux=True, allow_int=True)(
            params, xs, carry
        )
        names = "gradient of the parameters", "gradient of the inputs", "gradient of the carry"
        return results | dict(zip(names, gradients, strict=True))

    return both


def _same(got, want, tolerance, problem):
    """Raise a CellError with the place and size of the first difference beyond `tolerance`."""
    if jax.tree.structure(got) != jax.tree.structure(want):
        raise CellError(f"{problem} (the structures differ).")
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True
    ):
        a, b = np.asarray(a), np.asarray(b)
        if a.dtype == jax.dtypes.float0:
            continue
        where = f" at {jax.tree_util.keystr(path)}" if path else ""
        if a.shape != b.shape:
            raise CellError(f"{problem}{where} (shapes {a.shape} and {b.shape}).")
        a, b = a.astype(np.float64), b.astype(np.float64)
        error = np.max(np.abs(a - b), initial=0)
        if not error <= tolerance * max(1.0, np.max(np.abs(b), initial=0)):
            raise CellError(f"{problem}{where} (by {error:.2g}).")


def _stack(trees, axis=0):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, axis), *trees)


def _fields(cell):
    return dataclasses.fields(cell) if dataclasses.is_dataclass(cell) else ()


def _name(cell):
    return type(cell).__name__
