"""Fixed points in the plane of the states, and the tables that figures of them read."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from rnnjax.cells import ElmanCarry
from rnnjax.experiment import in_plane, phase_tables


class Found(NamedTuple):
    """What `in_plane` reads of fixed points."""

    points: ElmanCarry
    q: np.ndarray
    num_unstable: np.ndarray
    eigenvalues: np.ndarray
    right: np.ndarray


def example():
    """States that vary along the second axis, then the first; points at their mean and off it."""
    time = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    states = np.stack([5 + np.sin(time), 6 + 3 * np.cos(time), 7 + 0 * time], axis=-1)
    carries = ElmanCarry(jnp.asarray(np.stack([states, states], axis=1)))
    points = ElmanCarry(np.array([[5.0, 6.0, 7.0], [7.0, 7.0, 9.0]]))
    right = np.stack([np.eye(3), np.eye(3)]).astype(complex)
    values = np.array([[1.5, 0.5, 0.1], [0.9, 0.2j, -0.2j]])
    return Found(points, np.array([0.0, 1e-30]), np.array([1, 0]), values, right), carries


def test_the_plane_is_that_of_the_principal_components(x64):
    found, carries = example()
    arrays = in_plane(found, carries, 1)
    np.testing.assert_allclose(np.abs(arrays["points"]), [[0, 0], [1, 2]], atol=1e-12)
    np.testing.assert_allclose(arrays["share"], [0.9, 0.1], atol=1e-12)
    np.testing.assert_allclose(arrays["participation_ratio"], 100 / 82, rtol=1e-12)
    assert arrays["paths"].shape == (40, 1, 2)
    np.testing.assert_allclose(np.abs(arrays["paths"][0, 0]), [3, 0], atol=1e-12)
    np.testing.assert_allclose(
        np.abs(arrays["directions"][0]), [[0, 1], [1, 0], [0, 0]], atol=1e-12
    )


def test_tables_have_a_line_along_each_growing_real_direction(x64):
    found, carries = example()
    arrays = {name: np.asarray(a) for name, a in in_plane(found, carries, 2).items()}
    tables = phase_tables(arrays, {"coherence": [5, -5]}, cell="gru")
    assert [row["coherence"] for row in tables["trajectories"]] == [5, -5]
    (points,), (lines,), (spectrum,) = (tables[n] for n in ("points", "directions", "eigenvalues"))
    assert all(row["cell"] == "gru" for rows in tables.values() for row in rows)
    np.testing.assert_array_equal(points["num_unstable"], [1, 0])
    np.testing.assert_allclose([lines["x"], lines["y"]], 0, atol=1e-12)  # of the first point
    length = 0.06 * 6  # of the extent of the paths
    np.testing.assert_allclose(np.hypot(lines["dx"], lines["dy"]), [length], rtol=1e-9)
    np.testing.assert_allclose(lines["dx"], 0, atol=1e-12)
    assert [row["trajectory"] for row in tables["trajectories"]] == [0, 1]
    np.testing.assert_array_equal(spectrum["num_unstable"], [1, 1, 1, 0, 0, 0])
    np.testing.assert_allclose(spectrum["imag"], [0, 0, 0, 0, 0.2, -0.2])
