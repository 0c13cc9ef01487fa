"""What takes part in a benchmark: one problem, ways of computing it, and what is right.

The problem: outputs from a zero state, and the gradients of sum(outputs * w), w fixed and random,
with respect to all parameters and to the inputs.
"""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rnnjax import networks, training
from rnnjax.recurrence.options import settle_dtypes

import jax
import jax.numpy as jnp
import libraries
import numpy as np
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from libraries import LeftOut

TOLERANCE = 1e-5  # of the largest entry


class Problem(NamedTuple):
    """What all contenders compute."""

    name: str  # of the cell
    params: Any  # ours
    xs: Any  # [T, B, D]
    w: Any  # [T, B, output size], dL/d(outputs)
    features: int
    options: Mapping[str, Any] = {}  # other arguments of the cell

    @property
    def cell(self):
        return networks.make_cell(self.name, self.features, **self.options)

    @property
    def input_size(self):
        return self.xs.shape[-1]


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way of computing it."""

    forward: Callable[[], Any]
    both: Callable[[], Any]
    in_our_terms: Callable[[], dict[str, Any]]  # the results of both, as `reference` has them
    compile_s: float | None = None  # of both
    temp_mb: float | None = None  # temporaries of both, on all devices
    devices: int | None = None  # that compute both; PyTorch has threads instead


def make_problem(name: str, shape: Sequence[int], **options: Any) -> Problem:
    """Draw parameters, inputs and a cotangent; `options` are other arguments of the cell."""
    batch, length, input_size, features = shape
    output_size = networks.make_cell(name, features, **options).output_size
    x_key, w_key = jax.random.split(jax.random.key(1))
    return Problem(
        name,
        libraries.parameters(name, input_size, features, **options),
        jax.random.normal(x_key, (length, batch, input_size)),
        jax.random.normal(w_key, (length, batch, output_size)),
        features,
        options,
    )


def reference(problem: Problem) -> dict[str, Any]:
    """Return outputs and gradients by a plain scan over `cell.step` in float64."""
    with jax.enable_x64(True):
        cell: Any = problem.cell
        if any(field.name == "param_dtype" for field in dataclasses.fields(cell)):
            cell = dataclasses.replace(cell, param_dtype=jnp.float64)
        params, xs, w = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), problem[1:4])

        def step(ready, carry, u):
            carry = cell.step(ready, carry, u)
            return carry, cell.output(carry)

        def loss(params, xs):
            ready = cell.prepare(params)
            start = settle_dtypes(cell, ready, xs, cell.initial_carry(xs.shape[1:-1]))
            us = cell.project(ready, xs)
            outputs = lax.scan(lambda carry, u: step(ready, carry, u), start, us)[1]
            return (outputs * w).sum(), outputs

        (by_params, by_inputs), outputs = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(params, xs)
        return results(outputs, by_params, by_inputs)


def reference_on_host(problem: Problem) -> dict[str, Any]:
    """Return the same, computed on the host whatever the default device."""
    cpu = jax.local_devices(backend="cpu")[0]
    params, xs, w = jax.device_put((problem.params, problem.xs, problem.w), cpu)
    with jax.default_device(cpu):
        return reference(problem._replace(params=params, xs=xs, w=w))


def results(outputs: Any, by_params: Any, by_inputs: Any) -> dict[str, Any]:
    """Return what is compared: all gradients but that of the second bias, which not all have."""
    leaves = jax.tree_util.tree_leaves_with_path(by_params)
    found = {jax.tree_util.keystr(path).lstrip("."): leaf for path, leaf in leaves}
    found.pop("recurrent_bias", None)
    return {
        key: np.asarray(a) for key, a in {"outputs": outputs, **found, "inputs": by_inputs}.items()
    }


def tolerance(what: str, tokens: int) -> float:
    """Return how far a float32 result may be from the float64 one, in units of its largest entry.

    1e-5; for gradients with respect to parameters, sums over all B T tokens, no less than what
    adding them up one after another loses, a random walk of roundings: 2^-24 sqrt(B T). (Measured,
    up to T = 10,000 and H = 256: most are within 1e-6, all but one within 6e-6; the bias of
    PyTorch's LSTM reaches 9e-6 at 64,000 tokens and 1e-5 at 320,000.)
    """
    return TOLERANCE if what in ("outputs", "inputs") else max(TOLERANCE, 2**-24 * tokens**0.5)


def check(
    contenders: Mapping[str, Contender],
    want: Mapping[str, Any],
    least: Mapping[str, float] | None = None,
) -> None:
    """Assert that what is timed is right; `least` are differences that are always allowed."""
    length, batch, _ = want["outputs"].shape
    for name, contender in contenders.items():
        for what, difference in differences(contender, want).items():
            allowed = max((least or {}).get(what, 0.0), tolerance(what, length * batch))
            assert difference <= allowed, (
                f"{name}: {what} differs from that in float64 by {difference:.1e} of its largest "
                f"entry; allowed are {allowed:.0e}"
            )


def differences(contender: Contender, want: Mapping[str, Any]) -> dict[str, float]:
    """Return the largest differences of results, in units of the largest entry of each."""
    return {
        what: np.abs(got - want[what]).max() / np.abs(want[what]).max()
        for what, got in contender.in_our_terms().items()
    }


def make_contender(name: str, problem: Problem) -> Contender:
    """Return a contender by its name, compiled.

    Raises:
        LeftOut: it cannot take part; why.
    """
    mesh: Any = training.batch_mesh()
    library, _, variant = name.partition("-")
    by_hand, batch = variant in ("sharded", "by-hand"), problem.xs.shape[1]
    if mesh.size == 1 or batch % mesh.size:
        if by_hand:
            raise LeftOut(f"B = {batch} is not split over {mesh.size} devices")
        mesh = None
    if name == "torch":
        return torch_contender(problem)
    network = libraries.MAKERS[library](problem.name, problem.input_size, problem.features)
    split = by_hand or name == "rnnjax"
    return compiled(network, problem, mesh if split else None, by_hand=by_hand)


def compiled(
    network: libraries.Network, problem: Problem, mesh: Any = None, *, by_hand: bool = False
) -> Contender:
    """Return a JAX network as a contender, with its batch split over the mesh, if there is one.

    `by_hand`: each device runs the network, and differentiates it, on its part of the batch; the
    gradients of the weights are added up once. Left to the compiler they would be at every step.
    """
    weights, xs, w = network.weights(problem.params), problem.xs, problem.w
    if network.batch_major:
        xs, w = xs.swapaxes(0, 1), w.swapaxes(0, 1)
    split: Any = None
    if mesh is not None:
        split = NamedSharding(mesh, P("batch") if network.batch_major else P(None, "batch"))
        weights, xs, w = jax.device_put((weights, xs, w), (NamedSharding(mesh, P()), split, split))

    def loss(weights, xs, w):
        return (network.run(weights, xs) * w).sum()

    run, gradient = network.run, jax.grad(loss, (0, 1))
    if by_hand:

        def add_up(weights, xs, w):
            by_weights, by_inputs = jax.grad(loss, (0, 1))(weights, xs, w)
            return lax.psum(by_weights, "batch"), by_inputs

        over = functools.partial(jax.shard_map, mesh=mesh, check_vma=False)
        run = over(run, in_specs=(P(), split.spec), out_specs=split.spec)
        gradient = over(add_up, in_specs=(P(), split.spec, split.spec), out_specs=(P(), split.spec))
    with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
        start = time.perf_counter()
        both = jax.jit(gradient).lower(weights, xs, w).compile()
        compile_s = time.perf_counter() - start
        forward = jax.jit(run).lower(weights, xs).compile()

    def in_our_terms():
        outputs, (by_weights, by_inputs) = jax.device_get(
            (forward(weights, xs), both(weights, xs, w))
        )
        if network.batch_major:
            outputs, by_inputs = outputs.swapaxes(0, 1), by_inputs.swapaxes(0, 1)
        return results(outputs, pulled_back(network.weights, problem.params, by_weights), by_inputs)

    memory: Any = both.memory_analysis()
    shardings: Any = jax.tree.leaves(both.output_shardings)
    devices = len(set().union(*(sharding.device_set for sharding in shardings)))
    return Contender(
        lambda: forward(weights, xs),
        lambda: both(weights, xs, w),
        in_our_terms,
        compile_s,
        memory.temp_size_in_bytes * devices / 1e6,
        devices,
    )


def torch_contender(problem: Problem) -> Contender:
    """Return PyTorch's network as a contender."""
    name, params = problem.name, problem.params
    layer = libraries.torch(name, problem.input_size, problem.features, params)
    import torch

    xs, w = (torch.tensor(np.asarray(a)) for a in (problem.xs, problem.w))
    xs.requires_grad_()

    def forward():
        with torch.no_grad():
            return layer(xs)[0]

    def both():
        wanted = dict(layer.named_parameters())
        gradients = torch.autograd.grad((layer(xs)[0] * w).sum(), [*wanted.values(), xs])
        return dict(zip(wanted, gradients[:-1], strict=True)), gradients[-1]

    def in_our_terms():
        by_weights, by_inputs = both()
        by_weights = {name: np.asarray(gradient) for name, gradient in by_weights.items()}
        by_params = pulled_back(libraries.torch_weights, params, by_weights)
        return results(forward(), by_params, by_inputs)

    return Contender(forward, both, in_our_terms)


def pulled_back(weights: Callable[[Any], Any], params: Any, gradient: Any) -> Any:
    """Return the gradient with respect to our parameters from that with respect to the weights."""
    return jax.vjp(weights, params)[1](gradient)[0]


def gather(names: Sequence[str], problem: Problem) -> tuple[dict[str, Contender], dict[str, str]]:
    """Return the contenders that can take part, checked, and why the others cannot."""
    contenders, reasons = {}, {}
    for name in names:
        try:
            contenders[name] = make_contender(name, problem)
        except LeftOut as reason:
            reasons[name] = str(reason)
    check(contenders, reference(problem))
    return contenders, reasons
