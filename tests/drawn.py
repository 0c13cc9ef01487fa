"""What a figure shows, read back from it."""

import numpy as np
from matplotlib.collections import PolyCollection

LN10 = np.log(10)
LAG = np.arange(1, 8)


def draw(function, *arguments):
    figure = function(*arguments)
    figure.draw_without_rendering()  # warnings would come only now
    return figure


def band(middle, **columns):
    middle = np.asarray(middle, float)
    return {**columns, "median": middle, "q25": middle - 0.5, "q75": middle + 0.25}


def lines(ax, style="-"):
    return {line.get_label(): line for line in ax.lines if line.get_linestyle() == style}


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def bands(ax):
    """The lower and upper edge of each shaded band, at every x."""
    found = []
    for collection in ax.collections:
        assert isinstance(collection, PolyCollection)
        points = np.concatenate([path.vertices for path in collection.get_paths()])
        xs = np.unique(points[:, 0])
        at = [points[points[:, 0] == x, 1] for x in xs]
        found.append((xs, [ys.min() for ys in at], [ys.max() for ys in at]))
    return found


def cell_at(mesh):
    """Return the cell of a heat map that covers a point, as a function of x and y."""
    corners, values = mesh.get_coordinates(), mesh.get_array()

    def at(x, y):
        column = np.searchsorted(corners[0, :, 0], x) - 1
        row = np.searchsorted(corners[:, 0, 1], y) - 1
        return values[row, column]

    return at
