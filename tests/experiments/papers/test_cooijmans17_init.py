"""Gradients through batch normalisation: a small run, a backward pass by hand, its verdict."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
from scripts import ROOT, load

from rnnjax.runs import Run

SCRIPT = ROOT / "experiments" / "papers" / "cooijmans17_init.py"
pytestmark = pytest.mark.slow
init = load(SCRIPT)
TINY = init.Config(gammas=(0.1, 1.0), images=6, features=10, seeds=2)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("cooijmans17") / "run"
    return out, init.run(dataclasses.replace(TINY, out=out))


def test_a_run_writes_everything_it_promises(tiny_run):
    out, summary = tiny_run
    assert json.loads((out / "summary.json").read_text()) == summary
    assert set(summary) == {"gammas", "verdict"} and set(summary["gammas"]) == {"0.1", "1"}
    assert all(len(of["span"]) == len(of["fall"]) == 2 for of in summary["gammas"].values())
    for ending in ("png", "svg", "csv"):
        assert (out / f"gradients.{ending}").stat().st_size > 100
    assert summary["verdict"]["outcome"] == "quick run only"
    table = Run(out).read_table("gradients")
    assert (table["data"] == init.HERE).sum() == 2 * 784
    published = table["data"] == init.FIGURE
    assert published.sum() == len(init.PUBLISHED) * len(init.TIMES)
    decades = table["median"][published & (table["gamma"] == 0.6)] / np.log(10)
    np.testing.assert_allclose(decades, init.PUBLISHED[0.6])
    here = table["median"][(table["data"] == init.HERE) & (table["gamma"] == 1)] / np.log(10)
    assert summary["gammas"]["1"]["middle"] == pytest.approx(here[500])


def test_figures_can_be_redrawn(tiny_run):
    out, summary = tiny_run
    (out / "gradients.png").unlink()
    assert init.run(dataclasses.replace(TINY, out=out, redraw=True)) == summary
    assert (out / "gradients.png").exists()


def backward_by_hand(gamma, key, xs, labels, features):
    """Return ||dL/dh_t||, the mean over images, with the derivative of batch norm written out."""
    keys = jax.random.split(key, 3)
    orthogonal = jax.nn.initializers.orthogonal()
    w_x = np.asarray(orthogonal(keys[0], (1, features), xs.dtype))
    w_y = np.asarray(orthogonal(keys[1], (features, 10), xs.dtype))
    h = 0.1 * np.asarray(jax.random.normal(keys[2], (xs.shape[1], features), xs.dtype))
    kept = []
    for x in xs:
        a = h + x @ w_x  # W_h is the identity
        sd = np.sqrt(a.var(0) + 1e-5)
        normal = (a - a.mean(0)) / sd
        h = np.tanh(gamma * normal)
        kept.append((normal, sd, h))
    logits = h @ w_y
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    g = (softmax - np.eye(10)[labels]) @ w_y.T / len(labels)
    norms = []
    for normal, sd, h in reversed(kept):
        norms.append(np.linalg.norm(g, axis=1).mean())
        n = g * (1 - h**2) * gamma
        g = (n - n.mean(0) - normal * (n * normal).mean(0)) / sd
    return norms[::-1]


def test_gradients_are_those_of_a_backward_pass_by_hand(x64):
    rng = np.random.default_rng(0)
    xs, labels = rng.uniform(size=(9, 7, 1)), rng.integers(10, size=7)
    xs[:3] = 0  # pixels without variance
    log_norms = jax.jit(functools.partial(init.log_norms, features=12))
    for gamma in (0.1, 1.5):
        key = jax.random.key(3)
        expected = backward_by_hand(gamma, key, xs, labels, 12)
        np.testing.assert_allclose(np.exp(log_norms(gamma, key, xs, labels)), expected, rtol=1e-9)


def test_images_are_framed_as_those_of_mnist_are():
    xs, labels = init.read_images(TINY, 5)
    assert xs.shape == (784, 6, 1) and labels.shape == (6,) and xs.dtype == np.float64
    images = xs[..., 0].T.reshape(6, 28, 28)
    inside = images[:, 4:24, 4:24]
    assert images.sum() == pytest.approx(inside.sum()) and inside.any((1, 2)).all()
    assert images.min() >= 0 and images.max() <= 1
    from rnnjax.datasets import digits

    pixels, all_labels = digits.load("train")
    rows = np.random.default_rng(5).permutation(len(pixels))[:6]
    np.testing.assert_array_equal(labels, all_labels[rows])
    small = pixels[rows].reshape(6, 8, 8)
    means = small.mean((1, 2))  # interpolation keeps them but for edges
    np.testing.assert_allclose(inside.mean((1, 2)), means, rtol=0.1)
    assert (xs != init.read_images(TINY, 6)[0]).any()


def summary_of(*, span=1.0, fall=16.0, middle=(-3.0, -8.0, -60.0)):
    """Return a summary that reproduces the claim, but for what is given."""
    entries = [{"span": [0.5, span], "fall": [0.0, 0.0], "middle": -2.0}]
    entries += [{"span": [99.0] * 2, "fall": [16.0, fall], "middle": m} for m in middle]
    return {"gammas": dict(zip(("0.1", "0.5", "0.6", "1"), entries, strict=True))}


def test_the_verdict_follows_its_rule():
    usual = init.Config()
    assert init.verdict(usual, summary_of()).outcome == "reproduced"
    for change in ({"span": 2.01}, {"fall": 9.99}, {"middle": (-3.0, -2.9, -60.0)}):
        found = init.verdict(usual, summary_of(**change))
        assert found.outcome == "not reproduced", change
        assert list(found.conditions.values()).count(False) == 1, change
    for fewer in ("seeds", "images", "features"):
        config = dataclasses.replace(usual, **{fewer: getattr(usual, fewer) - 1})
        assert init.verdict(config, summary_of()).outcome == "quick run only", fewer
    config = dataclasses.replace(usual, gammas=(0.1, 0.9))
    assert init.verdict(config, summary_of()).outcome == "quick run only"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--gammas 0.1", ("--gammas", "two or more")),
        ("--gammas 1 0.1", ("--gammas", "rising order")),
        ("--gammas 0 1", ("--gammas", "positive")),
        ("--images 1", ("--images", "at least 2")),
        ("--images 2000", ("--images", "at most 1442")),
        ("--features 9", ("--features", "at least 10")),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, names, refuses):
    refuses(init, arguments, names)
