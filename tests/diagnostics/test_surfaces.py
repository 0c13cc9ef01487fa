"""Loss surfaces against closed forms and loops; directions and projections against NumPy."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax import LSTM, unroll
from rnnjax.diagnostics import surfaces
from rnnjax.diagnostics.surfaces import Window, path_statistics

XS, YS = np.linspace(-1.0, 2.0, 7), np.linspace(-2.0, 1.0, 5)


class Model(NamedTuple):
    cell: dict
    bias: object


def model(scale=1.0):
    rng = np.random.default_rng(3)
    return Model(
        {"kernel": scale * rng.normal(size=(3, 5))},
        scale * rng.normal(size=5),
    )


def square(params):
    """|kernel|^2 / 2 + 3 sum(bias): its gradient is (kernel, 3)."""
    return jnp.sum(params.cell["kernel"] ** 2) / 2 + 3 * jnp.sum(params.bias)


def test_a_surface_is_the_function_and_its_whole_gradient(x64):
    center, directions = model(), (model(0.5), model(-2.0)._replace(bias=np.ones(5)))
    found = surfaces.surface(square, center, directions, XS, YS)
    assert found.values.shape == found.log_gradient_norm.shape == (5, 7)
    for j, y in enumerate(YS):
        for i, x in enumerate(XS):
            kernel, bias = (
                c + x * a + y * b
                for c, a, b in zip(
                    *[(p.cell["kernel"], p.bias) for p in (center, *directions)], strict=True
                )
            )
            value = np.sum(kernel**2) / 2 + 3 * bias.sum()
            norm = np.sqrt(np.sum(kernel**2) + 9 * 5)
            np.testing.assert_allclose(found.values[j, i], value, rtol=1e-12)
            np.testing.assert_allclose(found.log_gradient_norm[j, i], np.log(norm), rtol=1e-12)


@pytest.mark.slow
def test_the_surface_of_an_lstm_is_that_of_a_loop_and_of_finite_differences(x64):
    cell = LSTM(5, param_dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 3)
    xs = jax.random.normal(jax.random.key(1), (4, 2, 3))

    def loss(params):
        return jnp.sum(unroll(cell, params, xs)[1][-1] ** 2)

    across = surfaces.entry_direction(params, "recurrent_kernel", (1, 7))
    (along,) = surfaces.random_directions(jax.random.key(2), params, 1)
    found = surfaces.surface(loss, params, (across, along), XS[:3], YS[:2])
    leaves, structure = jax.tree.flatten(params)
    flat = np.concatenate([leaf.ravel() for leaf in leaves])
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]

    @jax.jit
    def by_hand(point):
        parts = zip(jnp.split(point, ends), leaves, strict=True)
        params = structure.unflatten(part.reshape(leaf.shape) for part, leaf in parts)
        carry = cell.initial_carry((2,))
        for x in xs:
            carry = cell.step(params, carry, cell.project(params, x))
        return jnp.sum(carry.h**2)

    # one finite difference over all entries, of which the gradient's norm is the root of the sum
    difference = jax.jit(
        jax.vmap(lambda point, e: (by_hand(point + e) - by_hand(point - e)) / 2e-5, (None, 0))
    )
    steps = 1e-5 * np.eye(flat.size)
    for j, y in enumerate(YS[:2]):
        for i, x in enumerate(XS[:3]):
            point = flat + y * np.concatenate([leaf.ravel() for leaf in along])
            point[60 + 1 * 20 + 7] += x  # row 1, column 7 behind the [3, 20] input kernel
            np.testing.assert_allclose(found.values[j, i], by_hand(point), rtol=1e-10)
            norm = np.linalg.norm(difference(point, steps))
            np.testing.assert_allclose(found.log_gradient_norm[j, i], np.log(norm), atol=1e-7)


def test_gradients_of_any_size_have_a_logarithm():
    """In float32 the squares of 1e-30 and 1e30 are 0 and infinite."""
    for slope in (1e-30, 1e30):

        def function(params, slope=slope):
            return slope * (3 * params[0] + 4 * params[1])

        found = surfaces.surface(function, jnp.zeros(2), list(jnp.eye(2)), [0.0, 1.0], [0.0])
        np.testing.assert_allclose(found.log_gradient_norm, np.log(5 * slope), rtol=1e-6)
    flat = surfaces.surface(
        lambda params: 0.0 * params[0], jnp.ones(2), list(jnp.eye(2)), [0.0], [0.0]
    )
    assert flat.log_gradient_norm[0, 0] == -np.inf


def test_parameters_keep_their_type_and_nothing_compiles_twice(x64):
    seen = []

    def function(params):
        seen.append(params.dtype)
        return jnp.sum(params)

    center = jnp.ones(2, jnp.float32)
    for shift in (0, 1):
        surfaces.surface(function, center, list(jnp.eye(2)), XS + shift, YS)
    assert len(set(seen)) == 1 and seen[0] == jnp.float32
    compiled = surfaces._surface._cache_size()  # pyright: ignore
    surfaces.surface(function, center + 1, list(jnp.eye(2)), XS, YS)
    assert surfaces._surface._cache_size() == compiled  # pyright: ignore


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"directions": [np.ones(2)]}, "directions must be two, got 1"),
        ({"directions": [np.ones(2), np.ones(3)]}, r"directions\[1\].*\(2,\).*\(3,\)"),
        ({"xs": 1.0}, r"xs must have one axis.*\(\)"),
        ({"ys": np.ones((2, 2))}, r"ys must have one axis.*\(2, 2\)"),
        ({"function": lambda p: p}, r"scalar.*\(2,\)"),
    ],
)
def test_a_wrong_surface_is_refused(changes, message):
    arguments = {
        "function": jnp.sum,
        "center": np.ones(2),
        "directions": [np.eye(2)[0], np.eye(2)[1]],
        "xs": XS,
        "ys": YS,
    }
    with pytest.raises(ValueError, match=message):
        surfaces.surface(**arguments | changes)


@pytest.mark.slow
def test_an_entry_direction_moves_one_entry():
    params = {"cell": LSTM(2).init(jax.random.key(0), 3), "scale": jnp.float32(2)}
    direction = surfaces.entry_direction(params, "cell.recurrent_kernel", (1, -1))
    want = np.zeros((2, 8), np.float32)
    want[1, 7] = 1
    np.testing.assert_array_equal(direction["cell"].recurrent_kernel, want)
    assert sum(float(jnp.abs(leaf).sum()) for leaf in jax.tree.leaves(direction)) == 1
    assert jax.tree.map(jnp.result_type, direction) == jax.tree.map(jnp.result_type, params)
    assert surfaces.entry_direction(params, "cell.bias", 3)["cell"].bias.tolist() == [
        *(0, 0, 0, 1),
        *(0, 0, 0, 0),
    ]
    assert surfaces.entry_direction(params, "scale", ())["scale"] == 1
    with pytest.raises(ValueError, match=r"cell\.bias, scale; got 'cell\.biases'"):
        surfaces.entry_direction(params, "cell.biases", 0)
    for index in (8, -9, (1, 1), ()):
        with pytest.raises(ValueError, match=r"index.*cell\.bias of shape \(8,\)"):
            surfaces.entry_direction(params, "cell.bias", index)


@pytest.mark.slow
def test_random_directions_are_as_long_as_the_filters():
    params = {
        "bias": jnp.array([3.0, 0.0, 4.0]),
        "kernel": jnp.array([[1.0, 0.0, 5.0], [2.0, 0.0, 12.0]]),
        "scale": jnp.float32(-2),
    }
    first, second = surfaces.random_directions(jax.random.key(0), params, 2)
    for direction in (first, second):
        norms = np.linalg.norm(direction["kernel"], axis=0)
        np.testing.assert_allclose(norms, [np.sqrt(5), 0, 13], rtol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(direction["bias"]), 5, rtol=1e-6)
        np.testing.assert_allclose(abs(direction["scale"]), 2, rtol=1e-6)
    again, _ = surfaces.random_directions(jax.random.key(0), params, 2)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, first, again))
    assert not np.allclose(first["kernel"][:, 0], second["kernel"][:, 0])
    (wide,) = surfaces.random_directions(jax.random.key(1), jnp.ones((40, 500)), 1)
    assert abs(float(wide.mean())) < 0.03  # both signs
    parallel = np.abs(wide[:, ::2].T @ wide[:, 1::2]) / 40  # cosines, 1/sqrt(40) for Gaussians
    assert 0.8 < np.sqrt(np.mean(parallel**2)) * np.sqrt(40) < 1.2
    with pytest.raises(ValueError, match="count.*positive integer.*0"):
        surfaces.random_directions(jax.random.key(0), params, 0)


def test_a_path_in_the_plane_is_found_again():
    """Coordinates along oblique directions of very different lengths, and a distance off them."""
    center, along = model(), (model(1e-12), model(2.0)._replace(bias=np.zeros(5)))
    off = Model({"kernel": np.zeros((3, 5))}, np.zeros(5))
    basis = np.stack([np.append(d.cell["kernel"], d.bias) for d in along], axis=1)
    rng = np.random.default_rng(0)
    normal = rng.normal(size=20)
    normal -= basis @ np.linalg.solve(basis.T @ basis, basis.T @ normal)
    normal /= np.linalg.norm(normal)
    off = Model({"kernel": normal[:15].reshape(3, 5)}, normal[15:])
    coordinates = np.array([[1e12, 0.0], [-2e12, 3.0], [0.0, 0.5]])
    height = np.array([0.0, 2.0, -0.25])
    points = [
        jax.tree.map(
            lambda c, a, b, o, x=x, y=y, h=h: c + x * a + y * b + h * o, center, *along, off
        )
        for (x, y), h in zip(coordinates, height, strict=True)
    ]
    path = jax.tree.map(lambda *p: np.stack(p), *points)
    found = surfaces.project_path(path, center, along)
    np.testing.assert_allclose(found.coordinates[:, 0], coordinates[:, 0], atol=1)
    np.testing.assert_allclose(found.coordinates[:, 1], coordinates[:, 1], atol=1e-10)
    np.testing.assert_allclose(found.distance, np.abs(height), atol=1e-9)
    alone = surfaces.project_path(path, center, [along[1]])
    b = basis[:, 1]
    moved = np.stack([np.append(p.cell["kernel"], p.bias) for p in points])
    moved = moved - np.append(center.cell["kernel"], center.bias)
    np.testing.assert_allclose(alone.coordinates[:, 0], moved @ b / (b @ b), rtol=1e-10)
    # Pythagoras
    squares = (alone.coordinates[:, 0] ** 2) * (b @ b) + alone.distance**2
    np.testing.assert_allclose(squares, np.sum(moved**2, 1), rtol=1e-10)


def test_a_wrong_projection_is_refused():
    path, center = np.zeros((4, 3)), np.zeros(3)
    with pytest.raises(ValueError, match="linearly independent"):
        surfaces.project_path(path, center, [np.ones(3), -2 * np.ones(3)])
    with pytest.raises(ValueError, match="linearly independent"):
        surfaces.project_path(path, center, [np.ones(3), np.zeros(3)])
    with pytest.raises(ValueError, match=r"path.*\(4, 3\).*\(4, 2\)"):
        surfaces.project_path(path[:, :2], center, [np.ones(3)])
    with pytest.raises(ValueError, match=r"directions\[0\].*\(3,\).*\(2,\)"):
        surfaces.project_path(path, center, [np.ones(2)])


def test_a_window_holds_its_edges_and_a_grid_in_its_middle():
    window = Window((4.0, 6.0), (-3.0, -1.0))
    w, b = np.array([4.0, 6.1, 5.0, np.nan]), np.array([-1.0, -2.0, -3.1, -2.0])
    assert window.contains(w, b).tolist() == [True, False, False, False]
    xs, ys = window.axes(3)
    assert (xs.tolist(), ys.tolist()) == ([4, 5, 6], [-3, -2, -1])
    points = list(zip(*window.middle(2), strict=True))
    assert points == [(4.5, -2.5), (5.5, -2.5), (4.5, -1.5), (5.5, -1.5)]


def test_a_path_is_described_by_its_longest_step_and_its_end():
    path = {
        "w": np.array([0.0, 3.0, 3.0, 3.5]),
        "b": np.array([0.0, 4.0, 4.5, 4.5]),
        "loss": np.array([4.0, 3.0, 1.0, 2.0]),
        "grad_norm": np.array([5.0, 9.0, 1.0, 1.0]),
    }
    found = path_statistics(path, "w", "b", Window((0.0, 3.0), (0.0, 5.0)))
    assert found == {
        "largest_step": 5.0,
        "at_update": 1,
        "largest_gradient": 9.0,
        "stays_on_surface": False,
        "final": [3.5, 4.5],
        "late_loss": 1.5,
    }
    assert path_statistics(path, "w", "b", Window((0.0, 4.0), (0.0, 5.0)))["stays_on_surface"]
