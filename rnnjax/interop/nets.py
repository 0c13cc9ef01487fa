"""Our side of a conversion: the cells of a net in order, their parameters, and what fits them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from rnnjax.cells import Elman
from rnnjax.layers import RNN, Bidirectional, Stack, concatenate


class Library(NamedTuple):
    """What another library has."""

    name: str
    cells: tuple[type, ...]
    merges: dict[str, Callable]  # values of `merge_fn` by the names that a person would type


class Place(NamedTuple):
    """One direction of one layer."""

    path: str  # of the cell in our parameters, "layers_0/backward_rnn/cell"
    layer: int
    backward: bool  # the second direction of `Bidirectional`
    rnn: RNN
    input_size: int | None  # None in the first layer, which takes inputs of any width

    @property
    def cell(self) -> Any:
        """The cell."""
        return self.rnn.cell

    @property
    def kind(self) -> Any:
        """The type of the cell's parameters, a named tuple."""
        return type(_drawn(self.cell, 1))

    def shapes(self, input_size: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of our parameters, if the first layer takes inputs `[.., D]`."""
        drawn = _drawn(self.cell, self.input_size or input_size)
        return {name: leaf.shape for name, leaf in drawn._asdict().items()}


def find_places(net: nn.Module, library: Library) -> list[Place]:
    """Return a `Place` for each direction of each layer, in order.

    Raises:
        ValueError, TypeError: the library has no such net.
    """
    stacked, has = type(net) is Stack, library.name
    if stacked and net.residual:
        raise ValueError(f"residual must be False: {has} has no residual layers")
    if stacked and not net.layers:
        raise ValueError("layers must hold at least one layer, got none")
    places, width = [], None
    for i, layer in enumerate(net.layers if stacked else [net]):
        found: dict[str, Any] = {"": layer}
        beside = False
        if type(layer) is Bidirectional:
            merge = layer.merge_fn
            if not any(merge is known for known in library.merges.values()):
                raise ValueError(f"merge_fn must be {_either(library.merges)}, got {merge!r}")
            found = {"forward_rnn/": layer.forward_rnn, "backward_rnn/": layer.backward_rnn}
            beside = merge is concatenate
        for name, rnn in found.items():
            _check_rnn(rnn, library)
            path = f"{f'layers_{i}/' if stacked else ''}{name}cell"
            places.append(Place(path, i, name == "backward_rnn/", rnn, width))
        sizes = [rnn.cell.output_size for rnn in found.values()]
        width = sum(sizes) if beside else sizes[0]
    if len({id(place.rnn) for place in places}) < len(places):
        raise ValueError("each layer and direction must have weights of its own")
    return places


def _check_rnn(rnn, library):
    if type(rnn) is not RNN:
        kind = type(rnn).__name__
        raise TypeError(
            f"net must be RNN, Bidirectional of two RNN, or Stack of either; got {kind}"
        )
    if type(rnn.cell) not in library.cells:
        known = _either([cell.__name__ for cell in library.cells])
        raise TypeError(f"cell must be {known}, got {type(rnn.cell).__name__}")
    if rnn.initial_carry_init is not None:
        raise ValueError(f"initial_carry_init must be None: {library.name} learns no initial state")


def variables_of(places: Sequence[Place], params: Sequence[Any]) -> dict[str, Any]:
    """Return the variables of a net with these parameters, in each cell's `param_dtype`."""
    named = {
        f"{place.path}/{name}": jnp.asarray(array, place.cell.param_dtype)
        for place, own in zip(places, params, strict=True)
        for name, array in own._asdict().items()
    }
    return {"params": unflatten_dict(named, sep="/")}


def params_of(places: Sequence[Place], variables: Mapping[str, Any]) -> list[Any]:
    """Return each cell's parameters as NumPy arrays.

    Raises:
        ValueError: parameters are missing, left over or of a wrong shape.
    """
    params = flatten_dict(variables.get("params", {}), sep="/")
    names = [f"{place.path}/{name}" for place in places for name in place.kind._fields]
    check_keys("variables['params']", params, names)
    found, input_size = [], 0
    for place in places:
        arrays = {name: np.asarray(params[f"{place.path}/{name}"]) for name in place.kind._fields}
        input_size = input_size or next(iter(arrays["input_kernel"].shape[-2:-1]), 1)
        for name, shape in place.shapes(input_size).items():
            check_shape(f"{place.path}/{name}", arrays[name], shape, place.cell)
        found.append(place.kind(**arrays))
    return found


def check_no_bias(places: Sequence[Place], params: Sequence[Any]) -> None:
    """Raise a ValueError unless all biases are zero."""
    for place, own in zip(places, params, strict=True):
        if any(np.any(array) for name, array in own._asdict().items() if name.endswith("bias")):
            raise ValueError(f"biases must be zero for bias=False; those of {place.path} are not")


def check_keys(name: str, got: Any, want: Sequence[str]) -> None:
    """Raise a ValueError that says what is missing or left over."""
    problems = {"missing": [key for key in want if key not in got]}
    problems["left over"] = [key for key in got if key not in want]
    if any(problems.values()):
        said = "; ".join(f"{what}: {_listed(keys)}" for what, keys in problems.items() if keys)
        span = want[0] if len(want) == 1 else f"{len(want)} keys, {want[0]} to {want[-1]}"
        raise ValueError(f"{name} must have {span}; {said}")


def check_shape(name: str, array: np.ndarray, shape: tuple[int, ...], cell: Any) -> None:
    """Raise a ValueError unless an array has this shape."""
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape} in {described(cell)}, got {array.shape}")


def described(cell: Any) -> str:
    """Return a cell and the fields that its weights do not fit without: `LSTM(features=4)`."""
    names = "features", "proj_size", "spatial_shape", "kernel_size"
    said = [f"{name}={getattr(cell, name)}" for name in names if name in vars(cell)]
    said += [cell.activation_fn.__name__] if type(cell) is Elman else []
    return f"{type(cell).__name__}({', '.join(said)})"


def to_numpy(name: str, array: Any) -> np.ndarray:
    """Return a tensor or an array in float64, in which the sum of two biases is rounded once.

    Raises:
        TypeError: it is not of a floating type.
    """
    if isinstance(array, _Tensor):
        tensor = array.detach().cpu()
        try:
            array = tensor.numpy()
        except TypeError:  # a type that NumPy lacks: bfloat16
            array = tensor.float().numpy()
    array = np.asarray(array)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} must be of a floating type, got {array.dtype}")
    return array.astype(np.float64)


@runtime_checkable
class _Tensor(Protocol):
    """What PyTorch's tensors have and arrays have not; nothing here needs PyTorch."""

    def detach(self) -> Any:
        """Return the tensor without its history."""


def _drawn(cell, input_size):
    return jax.eval_shape(lambda: cell.init(jax.random.key(0), input_size))


def _either(names):
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def _listed(keys):
    return ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
