"""Do the methods take any batch, keep the carry's types, and are they pure functions?"""

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.testing.comparing import CellError, name, on_abstract_values, promise, same
from rnnjax.testing.problems import BATCH, TIME, Problem, at, on_host, random_carry
from rnnjax.testing.python_loop import prepare

SHAPES = (), (BATCH,), (3, 2)


def check_inputs(problem: Problem) -> None:
    """Check that `prepare`, `initial_carry` and `project` take what they are given."""
    cell = problem.cell

    def check(params, inputs):
        with promise(f"{name(cell)}.prepare must take the parameters that init returns"):
            ready = cell.prepare(params)
        carries = {}
        for batch, x in zip(SHAPES, inputs, strict=True):
            what = f"must accept any batch shape, here {batch}"
            with promise(f"{name(cell)}.initial_carry {what}"):
                carries[batch] = cell.initial_carry(batch)
            _check_initial_carry(cell, carries[()], carries[batch], batch)
            with promise(f"{name(cell)}.project {what}"):
                cell.project(ready, x)

    with jax.enable_x64(False):
        inputs = [problem.inputs(batch, jnp.float32) for batch in SHAPES]
        on_abstract_values(check, problem.params, inputs)


def check_steps(problem: Problem) -> None:
    """Check that `step` and `output` take any batch shape, and what they return.

    `step` must return a carry of the structure, shapes and types that it received. A wider floating
    type may replace that of the initial carry, which `unroll` then casts, but it must be the same
    after every step.
    """
    cell = problem.cell

    def check(params, inputs):
        ready = cell.prepare(params)
        for batch, x in zip(SHAPES, inputs, strict=True):
            what = f"must accept any batch shape, here {batch}"
            u = cell.project(ready, x)
            carry = cell.initial_carry(batch)
            for first in (True, False):
                with promise(f"{name(cell)}.step {what}"):
                    after = cell.step(ready, carry, u)
                _check_like(cell, carry, after, may_widen=first)
                carry = after
            with promise(f"{name(cell)}.output {what}"):
                y = cell.output(carry)
            _check_output(cell, y, batch)

    with jax.enable_x64(False):
        inputs = [problem.inputs(batch, jnp.float32) for batch in SHAPES]
        on_abstract_values(check, problem.params, inputs)


def _check_initial_carry(cell, one, many, batch):
    if jax.tree.structure(one) != jax.tree.structure(many):
        raise CellError(
            f"{name(cell)}.initial_carry must return the same structure for every batch shape."
        )
    leaves = jax.tree_util.tree_leaves_with_path(many)
    for (path, leaf), alone in zip(leaves, jax.tree.leaves(one), strict=True):
        where = f"{name(cell)}.initial_carry({batch}){jax.tree_util.keystr(path)}"
        if not isinstance(leaf, jax.Array):
            raise CellError(f"{where} must be a JAX array, got {type(leaf).__name__}.")
        if leaf.shape != (*batch, *alone.shape):
            raise CellError(
                f"{where} has shape {leaf.shape}, which is not the batch shape and then the "
                f"{alone.shape} of one example."
            )


def _check_output(cell, y, batch):
    if not isinstance(y, jax.Array) or not jnp.issubdtype(y.dtype, jnp.inexact):
        got = y.dtype if isinstance(y, jax.Array) else type(y).__name__
        raise CellError(f"{name(cell)}.output must return a floating or complex array, got {got}.")
    with promise(f"{name(cell)}.output_size must be the number of output features"):
        size = cell.output_size
    if y.ndim <= len(batch) or (*y.shape[: len(batch)], y.shape[-1]) != (*batch, size):
        raise CellError(
            f"{name(cell)}.output must return [*batch, output_size] = {(*batch, size)}, got shape "
            f"{y.shape}."
        )


def _check_like(cell, received, returned, may_widen):
    broken = f"{name(cell)}.step must return a carry of the same %s it received"
    structures = [jax.tree.structure(tree) for tree in (received, returned)]
    if structures[0] != structures[1]:
        raise CellError(
            f"{broken % 'structure'}: it received {structures[0]} and returned {structures[1]}."
        )
    leaves = jax.tree_util.tree_leaves_with_path(received)
    for (path, a), b in zip(leaves, jax.tree.leaves(returned), strict=True):
        where = f" at {jax.tree_util.keystr(path)}" if path else ""
        if not isinstance(b, jax.Array):
            raise CellError(f"{broken % 'types'}:{where} it returned a {type(b).__name__}.")
        if a.shape != b.shape:
            raise CellError(
                f"{broken % 'shapes'}:{where} it received {a.shape} and returned {b.shape}."
            )
        wider = (
            may_widen and _kind(a) == _kind(b) and jnp.promote_types(a.dtype, b.dtype) == b.dtype
        )
        if a.dtype != b.dtype and not wider:
            raise CellError(
                f"{broken % 'types'}:{where} it received {a.dtype} and returned {b.dtype}."
            )


def _kind(a):
    kinds = jnp.complexfloating, jnp.floating, jnp.integer, jnp.bool_
    return next((kind for kind in kinds if jnp.issubdtype(a.dtype, kind)), a.dtype)


def check_purity(problem: Problem) -> None:
    """Check that two calls agree, with `jax.jit` and without, and that no traced value is kept."""
    cell = problem.cell
    with jax.enable_x64(False):
        params, xs, carry = problem.narrow
        ready = cell.prepare(params)
        x = jax.tree.map(jnp.asarray, at(on_host(xs), 0))
        u = cell.project(ready, x)
        trials = {
            "prepare": (cell.prepare, (params,)),
            "project": (cell.project, (ready, x)),
            "step": (cell.step, (ready, carry, u)),
            "output": (cell.output, (carry,)),
        }
        for method_name, (method, args) in trials.items():
            first = method(*args)
            broken = f"{name(cell)}.{method_name} is not a pure function"
            same(first, method(*args), 0, f"{broken}: two calls with the same arguments differ")
            with promise(f"{broken}: it fails under jax.jit"), jax.checking_leaks():
                jitted = jax.jit(lambda *args, method=method: method(*args))(*args)
            same(first, jitted, 1e-5, f"{broken}: its result under jax.jit differs")


def check_batches(problem: Problem) -> None:
    """Check that an example alone, or a step alone, gives what it gives among others."""
    batch = (3, 2)
    with jax.enable_x64(True):
        cell, params, _, _ = problem.wide
        ready = prepare(cell, params)

        @jax.jit
        def project(xs):
            return cell.project(ready, xs)

        @jax.jit
        def run(x, carry):
            u = cell.project(ready, x)
            new = cell.step(ready, carry, u)
            return u, new, cell.output(new)

        xs = on_host(problem.inputs((TIME, *batch), jnp.float64))
        carry = on_host(random_carry(cell, batch, problem.key))
        whole = on_host(run(at(xs, 0), carry))
        names = "project", "step", "output"
        for index in np.ndindex(batch):
            alone = run(at(at(xs, 0), index), at(carry, index))
            for method, one, all_ in zip(names, alone, whole, strict=True):
                for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(all_), strict=True):
                    if b.shape != (*batch, *a.shape):
                        raise CellError(
                            f"{name(cell)}.{method} must return leaves [*batch, ...]: shape "
                            f"{b.shape} for a batch {batch}, but {a.shape} for one example."
                        )
                here = at(all_, index)
                broken = f"{name(cell)}.{method} mixes the examples of a batch"
                same(here, one, 1e-9, f"{broken}: an example alone gives another result")
        steps = [on_host(run(at(xs, t), carry)[0]) for t in range(TIME)]
        single = jax.tree.map(lambda *leaves: np.stack(leaves), *steps)
        broken = f"{name(cell)}.project mixes time steps"
        same(project(xs), single, 1e-9, f"{broken}: all steps at once differ from one at a time")
