"""All singular values are drawn, each against the lag."""

import numpy as np
from drawn import LAG, LN10, draw

from rnnjax import figures


def test_every_value_is_a_line_in_its_panel(stored):
    def part(cell, count):
        lag, index = np.meshgrid(LAG, np.arange(count), indexing="ij")
        values = -LN10 * lag * (index + 1)
        columns = {"lag": lag.ravel(), "index": index.ravel(), "log_value": values.ravel()}
        return {"cell": cell, **columns}

    parts = [part("gru", 3), part("MyCell", 2)]
    parts[1]["log_value"][-1] = -np.inf
    table = stored(parts)
    figure = draw(lambda: figures.log_spectra(table, panel="cell", names={"gru": "GRU, gain 1"}))
    left, right = figure.axes
    assert (left.get_title(), right.get_title()) == ("GRU, gain 1", "MyCell")
    assert (len(left.lines), len(right.lines)) == (3, 2)
    np.testing.assert_allclose(left.lines[2].get_ydata(), -3 * LAG)
    assert np.isnan(right.lines[1].get_ydata()[-1])
    assert left.get_xlabel() == "lag k = T - t (steps before the end)"
