"""A matplotlib figure as the bytes of its image files: the same figure gives the same bytes."""

import io
from typing import Any

FORMATS: dict[str, dict[str, Any]] = {
    "png": {"dpi": 150},
    "svg": {"metadata": {"Date": None}},
}


def image_files(figure: Any) -> dict[str, bytes]:
    """Return the images of a figure by file extension: png and svg."""
    import matplotlib

    # The layout is computed once: every drawing would compute it again, and move things a little.
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    with matplotlib.rc_context(
        {"figure.autolayout": False, "figure.constrained_layout.use": False}
    ):
        figure.set_layout_engine(None)
    found = {}
    for extension, options in FORMATS.items():
        image = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": "rnnjax"}):
            figure.savefig(image, format=extension, **options)
        found[extension] = image.getvalue()
    return found
