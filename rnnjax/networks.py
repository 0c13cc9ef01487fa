"""Cells and networks by name, built in or from a file of your own: mapped once, here.

A cell is named by its class in lower case: `elman`, `lstm`, `gru`, `mingru`, `slstm`, `lru`. Some
names are a cell with certain arguments: `linear` is `elman` without tanh, `irnn` with rectified
units and U = I; `retnet`, `gla` and `mamba2` are the three decays of `LinearAttention`. A cell of
your own is named by where its class is:

    ./mine.py:MyCell        a file, relative to the current directory
    my_cells:MyCell         a module beside the script, in the current directory, or installed
    package.module:MyCell

A network is `tcn`, `transformer`, or a cell, alone or after `deep_` (two layers), `bidirectional_`,
`deep_bidirectional_` or `residual_` (two residual blocks, as modern cells are used): `deep_gru`,
`residual_mingru`, `bidirectional_./mine.py:MyCell`.
"""

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from importlib import machinery
from pathlib import Path
from typing import Any

import jax

from rnnjax import cells
from rnnjax.cells import Cell, Gated

CELLS: dict[str, type[Cell]] = {"elman": cells.Elman, "lstm": cells.LSTM, "gru": cells.GRU}
_CLASSES: tuple[type[Cell], ...] = (
    *(cells.IndRNN, cells.AntisymmetricRNN, cells.CoRNN, cells.LEM, cells.OrthogonalRNN),
    *(cells.MGU, cells.JANET, cells.URLSTM, cells.BRC, cells.NBRC, cells.LSTM1997, cells.SLSTM),
    *(cells.ParaGRU, cells.ParaLSTM, cells.LRU, cells.S5, cells.MinGRU, cells.MinLSTM),
    *(cells.RGLRU, cells.MLSTM, cells.DeltaNet, cells.GatedDeltaNet, cells.Rate),
)
_IRNN = {
    "activation_fn": jax.nn.relu,
    "recurrent_kernel_init": cells.initializers.Identity(),
}
# Every named cell, with arguments beside its features; `CELLS` are those compared by default.
NAMED_CELLS: dict[str, tuple[type[Cell], dict[str, Any]]] = {
    **{name: (kind, {}) for name, kind in CELLS.items()},
    "linear": (cells.Elman, {"activation_fn": cells.identity}),
    "irnn": (cells.Elman, _IRNN),
    **{kind.__name__.lower(): (kind, {}) for kind in _CLASSES},
    "retnet": (cells.LinearAttention, {"decay": "fixed"}),
    "gla": (cells.LinearAttention, {"decay": "vector"}),
    "mamba2": (cells.LinearAttention, {"decay": "scalar"}),
}
FORMS = {
    "": "",
    "deep_bidirectional_": "deep bidirectional",
    "deep_": "deep",
    "bidirectional_": "bidirectional",
    "residual_": "residual",
}
FORM_LABELS = {
    "": "one layer",
    "deep_": "two layers",
    "bidirectional_": "both directions",
    "deep_bidirectional_": "two layers, both directions",
    "residual_": "two residual blocks",
}
LABELS = {
    "elman": "Elman",
    "lstm": "LSTM",
    "gru": "GRU",
    **{kind.__name__.lower(): kind.__name__ for kind in _CLASSES},
    "irnn": "IRNN",
    "retnet": "RetNet",
    "gla": "GLA",
    "mamba2": "Mamba-2",
    "tcn": "causal CNN",
    "transformer": "Transformer",
}
NETWORKS = "tcn", "elman", "lstm", "gru", "bidirectional_gru", "deep_gru", "transformer"
OWN = "FILE.py:CLASS or MODULE:CLASS"


def cell_class(name: str) -> type[Cell]:
    """Return the class of the cell with this name.

    Raises:
        ValueError: there is no such cell, file, module or class, or it is not a cell; the message
            is one line.
    """
    if name in NAMED_CELLS:
        return NAMED_CELLS[name][0]
    place, colon, attribute = name.rpartition(":")
    if not (colon and place and attribute):
        known = ", ".join(NAMED_CELLS)
        raise ValueError(f"must be {known}, or {OWN} for a cell of your own, got {name}")
    try:
        module = _load(place)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error.__cause__
    try:
        found = getattr(module, attribute)
    except AttributeError:
        raise ValueError(f"{name}: {place} has no {attribute}") from None
    if not (isinstance(found, type) and issubclass(found, Cell)):
        raise ValueError(f"{name}: {attribute} is not a subclass of rnnjax.Cell")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise ValueError(f"{name}: {attribute} is abstract; it has to define {missing}")
    return found


def make_cell(name: str, features: int, **options: Any) -> Cell:
    """Return the cell with this name, with `features` hidden units if its class takes that.

    Args:
        name: as in the docstring of this module.
        features: H; a class without such an argument is constructed without it.
        options: other arguments of the class.

    Raises:
        ValueError: as `cell_class`; or the class cannot be constructed.
    """
    cls = cell_class(name)
    options = NAMED_CELLS.get(name, (cls, {}))[1] | options
    takes = inspect.signature(cls).parameters
    given = {"features": features} if "features" in takes else {}
    try:
        return cls(**given, **options)
    except (TypeError, ValueError) as error:
        if name in NAMED_CELLS:
            raise
        arguments = ", ".join(f"{key}={value!r}" for key, value in (given | options).items())
        raise ValueError(f"{name}: {cls.__name__}({arguments}) failed: {error}") from error


def short_name(name: str) -> str:
    """Return the name that tables and summaries use: that of the class, if a cell is one's own.

    `elman` is `elman`; `./mine.py:MyCell` is `MyCell`; `deep_./mine.py:MyCell` is `deep_MyCell`.
    """
    form, cell = split(name)
    return form + cell.rpartition(":")[2]


def label(name: str) -> str:
    """Return the name that figures use: `bidirectional GRU`, `MyCell`."""
    form, cell = split(short_name(name))
    return f"{FORMS[form]} {LABELS.get(cell, cell)}".strip()


def split(name: str) -> tuple[str, str]:
    """Return the form and the cell of a network's name: `deep_`, `gru`."""
    form = next((form for form in FORMS if form and name.startswith(form)), "")
    return form, name[len(form) :]


def own_file(name: str) -> Path | None:
    """Return the file that the cell of a network's name comes from; None if it names no file."""
    place, colon, attribute = split(name)[1].rpartition(":")
    names_file = colon and attribute and place.endswith(tuple(machinery.all_suffixes()))
    return Path(place) if names_file else None


def not_varied(name: str, cell: Cell) -> str:
    """Return a line on the settings that an experiment does not vary for a cell of one's own."""
    known = (
        "the forget bias is not varied, because only the built-in cells' keeping gates are known"
    )
    if isinstance(cell, Gated):
        return f"{short_name(name)}: {known}"
    return f"{short_name(name)}: neither gain nor forget bias is varied, because it is not Gated"


def causal(name: str) -> bool:
    """Return whether a network's output at a step depends on no later input."""
    return "bidirectional" not in split(name)[0]


def check_network(name: str) -> None:
    """Raise a ValueError unless there is a network with this name; the message is one line."""
    if name in ("tcn", "transformer"):
        return
    _, cell = split(name)
    if cell not in NAMED_CELLS and ":" not in cell:
        known = ", ".join(dict.fromkeys((*NETWORKS, *NAMED_CELLS)))
        raise ValueError(
            f"must be {known}, or {OWN} for a cell of your own, alone or after deep_, "
            f"bidirectional_, deep_bidirectional_ or residual_, got {name}"
        )
    cell_class(cell)


def network(name: str, features: int, *, window: int, blocks: int | None = None) -> Any:
    """Return the Flax layer with this name, `[B, T, D] -> [B, T, H]`.

    Args:
        name: as in the docstring of this module.
        features: H, of each layer and direction.
        window: how far back the network must be able to look, in steps: it sets the number of
            blocks of the CNN and the attention window of the Transformer.
        blocks: of the CNN; None means as many as the window needs.

    Raises:
        ValueError: there is no such network, or the Transformer cannot have so many features.
    """
    from rnnjax.layers import RNN, TCN, Transformer, bidirectional, deep, residual

    check_network(name)
    if name == "tcn":
        needed = next(n for n in range(1, 64) if 1 + 4 * (2**n - 1) >= window)
        return TCN(features, num_blocks=needed if blocks is None else blocks)
    if name == "transformer":
        if features % 4:
            raise ValueError(f"transformer needs features that are a multiple of 4, got {features}")
        return Transformer(features, num_heads=4, window=window)
    form, part = split(name)
    cell, both = make_cell(part, features), "bidirectional" in form
    if form == "residual_":
        return residual(cell, num_layers=2, features=features)
    if "deep" in form:
        return deep(cell, num_layers=2, bidirectional=both)
    return bidirectional(cell) if both else RNN(cell)


def _load(place):
    """Return the module at a path, or of a dotted name."""
    path = Path(place)
    if path.suffix == ".py" or path.name != place:
        if not os.path.isfile(path):  # `Path.is_file` fails for too long a name
            raise ValueError(f"there is no file {place}")
        return _load_file(path)
    try:
        beside_missing = importlib.util.find_spec(place) is None
    except (ImportError, ValueError):  # of a package that contains it; or it is no module's name
        beside_missing = True
    here = Path(*place.split(".")).with_suffix(".py")
    if beside_missing and here.is_file():
        return _load_file(here)
    if beside_missing:
        raise ValueError(f"there is no module {place}, and no file {here}")
    try:
        return importlib.import_module(place)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{place} cannot be imported: {error!r}") from error


def _load_file(path):
    """Return the module of a file, loaded once for each path, so that equal cells stay equal."""
    path = path.resolve()
    name = f"cells_of_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise ValueError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.parent))  # for what the file imports from beside it
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ValueError(f"{path} cannot be loaded: {error!r}") from error
    finally:
        sys.path.remove(str(path.parent))
    return module
