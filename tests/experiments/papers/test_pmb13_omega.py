"""The row of Omega: a small run, its numbers by hand, its verdict, its files and manners."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scripts import ROOT, load

from rnnjax.cells import ElmanCarry
from rnnjax.experiment import readout, select
from rnnjax.runs import Run
from rnnjax.tasks import TemporalOrder

pytestmark = pytest.mark.slow
pmb13_omega = load(ROOT / "experiments" / "papers" / "pmb13_omega.py")
TINY = pmb13_omega.Config(length=10, features=4, steps=4, batch_size=3, seeds=2)
NETWORKS = ["without Omega", "with Omega"]


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("pmb13_omega") / "run"
    return out, pmb13_omega.run(dataclasses.replace(TINY, out=out))


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert [*summary["networks"]] == NETWORKS and summary["longest_lag"] == 10
    for name in ("gradients", "longest_lag"):
        for ending in ("png", "svg", "csv"):
            assert (out / f"{name}.{ending}").stat().st_size > 100
    assert summary["verdict"]["outcome"] == "quick run only"
    run = Run(out)
    table = run.read_table("gradients")
    series = [*NETWORKS, "before training", "published: Omega = 0"]
    assert [*dict.fromkeys(table["network"])] == series
    assert table["lag"].tolist() == [*range(1, 11)] * 4
    assert (select(table, network=series[-1])["median"] == 0).all()
    ends = run.read_table("longest_lag")
    assert ends["update"].tolist() == [*range(5)] * 2
    for network in NETWORKS:
        (end,) = select(table, network=network, lag=10)["median"]
        assert end == select(ends, network=network, update=4)["median"][0]
        assert end == pytest.approx(np.mean(summary["networks"][network]["log_ratio"]))


def test_figures_can_be_redrawn(tiny_run):
    out, summary = tiny_run
    (out / "gradients.png").unlink()
    assert pmb13_omega.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert (out / "gradients.png").exists()


def drawn(seed):
    """Return the parameters of a network before training, and its batch keys."""
    init_key, key = jax.random.split(jax.random.key(seed))
    params = readout.init(TINY.make_cell(), TemporalOrder(10), init_key)
    return params._replace(kernel=params.kernel * 0.1 * 2), key  # N(0, 1/4) before


def states(w, xs, nudges=0.0):
    """Return the states h_0 .. h_T of a tanh network, each with a nudge added."""
    nudges = jnp.broadcast_to(nudges, (len(xs) + 1, xs.shape[1], 4))

    def step(h, now):
        x, nudge = now
        h = jnp.tanh(x @ w[0] + h @ w[1] + w[2]) + nudge
        return h, h

    _, later = jax.lax.scan(step, nudges[0], (xs, nudges[1:]))
    return jnp.concatenate([nudges[:1], later])


def loss_of(params, batch, nudges=0.0):
    logits = states(params.cell, batch.inputs, nudges)[-1] @ params.kernel + params.bias
    logs = jax.nn.log_softmax(logits)
    return -logs[jnp.arange(len(logits)), batch.targets[-1]].mean()


@jax.jit
def adjoints_of(params, batch):
    """Return dL/dh_t, t = 0 .. T."""
    zeros = jnp.zeros((len(batch.inputs) + 1, batch.inputs.shape[1], 4))
    return jax.grad(lambda nudges: loss_of(params, batch, nudges))(zeros)


def omega_of(kernel, params, batch):
    """Return the mean of (ratio^2 - 1)^2 as a function of the kernel of the step back alone."""
    h, a = states(params.cell, batch.inputs), adjoints_of(params, batch)
    return ratios(kernel, h[1:-1], a[1:-1]).mean()  # from h_t back to h_{t-1}


def ratios(kernel, h, a):
    back = (a * (1 - h**2)) @ kernel.T
    return ((back**2).sum(-1) / (a**2).sum(-1) - 1) ** 2


@pytest.mark.parametrize("weight", [0.0, 4.0])
def test_an_update_descends_loss_and_omega_through_the_recurrent_kernel_alone(weight):
    cell, task = TINY.make_cell(), TemporalOrder(10)
    params, key = drawn(0)
    batch = task.sample(key, 3)
    step, optimizer = pmb13_omega.make_train_step(TINY, cell, task, weight)
    start = pmb13_omega.training.TrainState(params, optimizer.init(params), jnp.int32(0), key)
    after, metrics = jax.jit(step)(start, batch)
    want, slopes = jax.jit(jax.value_and_grad(loss_of))(params, batch)
    kernel = params.cell.recurrent_kernel
    omega, slope = jax.jit(jax.value_and_grad(omega_of))(kernel, params, batch)
    slopes = slopes._replace(
        cell=slopes.cell._replace(recurrent_kernel=slopes.cell.recurrent_kernel + weight * slope)
    )
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(slopes)))
    assert metrics["loss"] == pytest.approx(float(want), rel=1e-5)
    assert metrics["omega"] == pytest.approx(float(omega), rel=1e-4)
    assert metrics["grad_norm"] == pytest.approx(float(norm), rel=1e-4)
    assert (norm > 1) == (weight > 0)  # so that one of the two is clipped
    for old, new, g in zip(*map(jax.tree.leaves, (params, after.params, slopes)), strict=True):
        np.testing.assert_allclose(new, old - 0.01 * g / max(norm, 1), atol=1e-6)
    assert after.step == 1


def test_gradients_that_are_too_small_do_not_count():
    cell, (params, key) = TINY.make_cell(), drawn(1)
    params = params._replace(
        cell=params.cell._replace(recurrent_kernel=5 * params.cell.recurrent_kernel)
    )
    batch = TemporalOrder(10).sample(key, 3)
    xs, found = batch.inputs, adjoints_of(params, batch)[:-1]
    given = [ElmanCarry(a) for a in (found, found.at[:6].multiply(1e-12), jnp.zeros_like(found))]
    whole, late, none = (pmb13_omega.mean_omega(cell, params.cell, xs, a) for a in given)
    assert whole == pytest.approx(float(omega_of(params.cell[1], params, batch)), rel=1e-4)
    h = states(params.cell, xs)
    terms = ratios(params.cell.recurrent_kernel, h[6:10], found[6:10])
    assert late == pytest.approx(float(terms.mean()), rel=1e-4) and none == 0


def test_the_profile_is_that_of_numpy():
    params, key = drawn(0)
    task = TemporalOrder(10)
    batch = task.sample(key, 5)
    found = pmb13_omega.probe(TINY.make_cell(), task, params, batch)
    lengths = np.linalg.norm(np.asarray(adjoints_of(params, batch), float), axis=-1)
    logs = np.log(lengths[-2::-1])  # lags 1 .. T
    np.testing.assert_allclose(found["profile"], np.median(logs - logs[0], 1), atol=1e-3)
    logits = states(params.cell, batch.inputs)[-1] @ params.kernel + params.bias
    assert found["accuracy"] == np.mean(logits.argmax(1) == batch.targets[-1])


def test_kernels_are_drawn_as_the_authors_do():
    for init, scale in (("tanh", 0.1), ("smart_tanh", 0.01)):
        cell = pmb13_omega.Config(init=init).make_cell()
        params = cell.init(jax.random.key(0), 6)
        assert np.std(params.input_kernel) == pytest.approx(scale, rel=0.15)
        assert (params.bias == 0).all()
        radius = np.abs(np.linalg.eigvals(params.recurrent_kernel)).max()
        count = (np.asarray(params.recurrent_kernel) != 0).sum(0)
        if init == "tanh":
            assert (count == 50).all() and radius == pytest.approx(0.1 * 50**0.5, rel=0.2)
        else:
            assert (count == 15).all() and radius == pytest.approx(0.95, rel=1e-3)


def summary_of():
    """Return a summary of three pairs of networks that reproduces the claim."""
    ends = {"without Omega": [-20.0, -15.0, -3.0], "with Omega": [-4.0, 4.0, 4.0]}
    entries = {name: {"log_ratio": of, "accuracy": [0.3] * 3} for name, of in ends.items()}
    return {"longest_lag": 100, "networks": entries}


def test_the_verdict_follows_its_rule():
    usual = pmb13_omega.Config()
    found = pmb13_omega.verdict(usual, summary_of())
    assert found.outcome == "reproduced" and len(found.conditions) == 3
    changes = [
        ("within a factor of 100", "with Omega", [-4.7, -4.7, 4.0]),
        ("within a factor of 100", "with Omega", [-4.0, 4.7, 4.7]),
        ("below a millionth", "without Omega", [-20.0, -13.8, -3.0]),
        ("in every pair", "without Omega", [-20.0, -15.0, 4.0]),
    ]
    for broken, network, ends in changes:
        summary = summary_of()
        summary["networks"][network]["log_ratio"] = ends
        found = pmb13_omega.verdict(usual, summary)
        failed = [name for name, holds in found.conditions.items() if not holds]
        assert found.outcome == "not reproduced" and len(failed) == 1 and broken in failed[0]
    for fewer in ("steps", "seeds", "features", "length"):
        config = dataclasses.replace(usual, **{fewer: getattr(usual, fewer) - 1})
        assert pmb13_omega.verdict(config, summary_of()).outcome == "quick run only", fewer


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--length 9", ("--length", "at least 10", "9")),
        ("--weight 0", ("--weight", "positive", "0")),
        ("--init sigmoid", ("--init", "sigmoid", "smart_tanh")),
        ("--features 0", ("--features", "at least 1", "0")),
        ("--init smart_tanh --features 3 --clip 0", ("--clip", "positive", "0")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(pmb13_omega, arguments, names)
