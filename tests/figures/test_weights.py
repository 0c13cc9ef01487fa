"""Histograms, blocks, eigenvalues and singular values show their tables."""

import numpy as np
from drawn import bands, draw, legend
from matplotlib.colors import same_color

from rnnjax import figures

COUNTS = {
    "low": [0.1, 1.0, 10.0],
    "high": [1.0, 10.0, 100.0],
    "median": [4.0, 0.0, 2.0],
    "q25": [3.0, 0.0, 0.0],
    "q75": [8.0, 1.0, 5.0],
}


def test_histograms_are_steps_with_bands_and_say_what_is_in_no_bin(stored):
    columns = {name: np.array(column) for name, column in COUNTS.items()}
    parts = [
        {"kernel": kernel, "gate": gate, **columns, "zero": zero, "not_finite": lost}
        for kernel in ("input", "recurrent")
        for gate, zero, lost in (("f", 0.25, 0), ("n", 0, 3))
    ]
    figure = draw(
        lambda table: figures.histograms(table, "gate", panel="kernel", xlabel="|w|", log_x=True),
        stored(parts),
    )
    assert [ax.get_title() for ax in figure.axes] == ["input", "recurrent"]
    for ax in figure.axes:
        assert legend(ax) == ["f, 0.25 zero", "n, 3 not finite"]
        assert (ax.get_xscale(), ax.get_yscale(), ax.get_xlabel()) == ("log", "log", "|w|")
        for stairs in ax.patches:
            values, edges, _ = stairs.get_data()
            np.testing.assert_array_equal(edges, [0.1, 1, 10, 100])
            np.testing.assert_array_equal(values, [4, np.nan, 2])  # an empty bin is left out
        colours = [stairs.get_edgecolor() for stairs in ax.patches]
        assert not same_color(*colours)
        for colour, (xs, low, high) in zip(colours, bands(ax), strict=True):
            np.testing.assert_array_equal(xs, [0.1, 1, 10, 100])
            # the quartiles, on both sides of an edge; down to the least of all where q25 is zero
            np.testing.assert_array_equal(low, [3, 1, 1, 1])
            np.testing.assert_array_equal(high, [8, 8, 5, 5])
            assert len(colour) == 4
    bare = draw(lambda table: figures.histograms(table, "gate", xlabel="w"), stored(parts[:1]))
    assert bare.axes[0].get_xscale() == "linear"
    empty = dict.fromkeys(("median", "q25", "q75"), np.zeros(3))  # a bias that is zero, say
    none = draw(
        lambda table: figures.histograms(table, "gate", xlabel="w"), stored([parts[0] | empty])
    )
    assert legend(none.axes[0]) == ["f, 0.25 zero"]


def test_block_maps_have_a_row_for_each_kernel_and_one_scale_in_it():
    rng = np.random.default_rng(0)
    blocks = {
        "recurrent_kernel": {"r": rng.normal(size=(5, 5)), "n": 9 * rng.normal(size=(5, 5))},
        "bias": {"r": np.zeros(5), "n": np.zeros(5)},
        "recurrent_bias": {"": np.array([1.0, np.nan, -np.inf, 0.5, -2.0])},
    }
    figure = draw(figures.block_maps, blocks)
    maps = [ax for ax in figure.axes if ax.images]
    flat = [(kernel, gate) for kernel, gates in blocks.items() for gate in gates]
    assert len(maps) == len(flat) == 5
    assert [ax.get_title() for ax in maps] == [gate for _, gate in flat]
    kernel = blocks["recurrent_kernel"]
    highest = {
        "recurrent_kernel": max(np.abs(block).max() for block in kernel.values()),
        "bias": 1,
        "recurrent_bias": 2,
    }
    for ax, (kernel, gate) in zip(maps, flat, strict=True):
        (image,) = ax.images
        want = np.atleast_2d(blocks[kernel][gate])
        shown = np.ma.filled(image.get_array(), np.nan)
        np.testing.assert_array_equal(shown, np.where(np.isfinite(want), want, np.nan))
        assert image.get_clim() == (-highest[kernel], highest[kernel])
    rows = [ax.get_ylabel().replace("\n", "_") for ax in maps if ax.get_ylabel()]
    assert rows == list(blocks)


def test_eigenvalues_lie_in_the_plane_with_the_unit_circle(stored):
    real, imag = np.array([0.5, -2.0]), np.array([1.0, 0.0])
    parts = [
        {"gate": gate, "step": step, "real": sign * real, "imag": imag}
        for step in (50, 0)
        for gate, sign in (("f", 1), ("o", -1))
    ]
    *panels, bar = draw(figures.eigenvalues, stored(parts)).axes
    assert [ax.get_title() for ax in panels] == ["f", "o"]
    assert bar.get_ylabel() == "training step"
    for ax, sign in zip(panels, (1, -1), strict=True):
        (circle,) = ax.lines
        np.testing.assert_allclose(np.hypot(*circle.get_data()), 1)
        (dots,) = ax.collections
        want = np.stack([sign * real, imag], axis=1)
        np.testing.assert_array_equal(dots.get_offsets(), [*want, *want])
        np.testing.assert_array_equal(dots.get_array(), [0, 0, 50, 50])  # the last on top
        assert dots.get_clim() == (0, 50) and ax.get_aspect() == 1
    (ax, _) = draw(figures.eigenvalues, stored(parts[:1])).axes
    assert ax.collections[0].get_clim() == (50, 51)


def test_singular_values_are_followed_by_rank(stored):
    values = {1: [3.0, 2.0, 1.5], 2: [1e-3, 0.0, 0.5], 3: [0.0, 0.0, 1e-2]}
    parts = [
        {"gate": "h", "step": step, "rank": rank, "value": column[i]}
        for i, step in enumerate((0, 10, 20))
        for rank, column in values.items()
    ]
    ax, bar = draw(figures.singular_values, stored(parts)).axes
    *ranks, one = ax.lines
    np.testing.assert_array_equal(one.get_ydata(), [1, 1])
    assert len(ranks) == 3 and ax.get_yscale() == "log" and bar.get_ylabel() == "rank"
    for line, column in zip(ranks, values.values(), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [0, 10, 20])
        shown = [value or np.nan for value in column]
        np.testing.assert_array_equal(line.get_ydata(), shown)
    assert len({tuple(line.get_color()) for line in ranks}) == 3
    assert [line.get_marker() for line in ranks] == ["", "", "."]
