"""Weights from and to PyTorch: the state dicts of `torch.nn.RNN`, `torch.nn.LSTM`, `torch.nn.GRU`.

PyTorch names the parameters of each direction of each layer `weight_ih_l0`, `weight_hh_l0`,
`bias_ih_l0`, `bias_hh_l0`; higher layers end in `_l1` and so on, backward directions in
`_l0_reverse`. Gate blocks are in our order: i, f, g, o and r, z, n. PyTorch is not needed.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from rnnjax.cells import GRU, LSTM, Elman, GatedParams, GRUParams
from rnnjax.layers import RNN, Bidirectional, Stack, concatenate

NAMES = "weight_ih", "weight_hh", "bias_ih", "bias_hh"


@runtime_checkable
class _Tensor(Protocol):
    """What PyTorch's tensors have and arrays have not; nothing here needs PyTorch."""

    def detach(self) -> Any:
        """Return the tensor without its history."""


class Place(NamedTuple):
    """Where one direction of one layer is in both libraries."""

    path: str  # of the cell in our parameters, "layers_0/backward_rnn/cell"
    suffix: str  # of PyTorch's keys, "l0_reverse"
    cell: Any
    input_size: int | None  # None in the first layer, which takes inputs of any width

    def keys(self, bias: bool) -> list[str]:
        """Return PyTorch's keys, in its order."""
        return [f"{name}_{self.suffix}" for name in (NAMES if bias else NAMES[:2])]

    def shapes(self, input_size: int) -> list[tuple[int, ...]]:
        """Return the shapes of PyTorch's arrays, if the first layer takes inputs `[.., D]`."""
        features = self.cell.features
        rows = len(self.cell.gate_names) * features
        return [(rows, self.input_size or input_size), (rows, features), (rows,), (rows,)]


def from_torch(net: nn.Module, state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return variables for `net.apply` with the weights of a `torch.nn.RNN`, `LSTM` or `GRU`.

        input_kernel = weight_ih^T,   recurrent_kernel = weight_hh^T,   bias = bias_ih + bias_hh
        GRU: bias = bias_ih + (bias_hh_r, bias_hh_z, 0),   recurrent_bias = bias_hh_n

    Without biases (`bias=False` in PyTorch) ours are zero. A state dict contains neither the
    activation nor the dropout rate: give `net` those that the network was trained with.

    Args:
        net: `RNN(cell)` with an `Elman` cell of tanh or relu, an `LSTM` or a `GRU`; `Bidirectional`
            of two that puts outputs side by side; or a `Stack` of either, all alike.
        state_dict: NumPy arrays or PyTorch tensors of any floating type, on any device. Parameters
            have the cell's `param_dtype`.

    Raises:
        ValueError: a key is missing or left over, a shape differs, the network has projections
            (`proj_size`), or `net` is one that PyTorch does not have.
        TypeError: a layer, a cell or an array is of an unsupported type.

    Source: PyTorch documentation, torch.nn.RNN, torch.nn.LSTM, torch.nn.GRU.
    """
    places = _places(net)
    if not isinstance(state_dict, Mapping):
        kind = type(state_dict).__name__
        raise TypeError(f"state_dict must be what state_dict() of a module returns, got {kind}")
    for key in state_dict:
        if key.startswith("weight_hr_l"):
            raise ValueError(f"{key}: proj_size is not supported")
    bias = any(key.startswith("bias_") for key in state_dict)
    keys = [key for place in places for key in place.keys(bias)]
    _check_keys("state_dict", state_dict, keys)
    arrays = {key: _to_numpy(key, state_dict[key]) for key in keys}
    input_size = next(iter(arrays["weight_ih_l0"].shape[-1:]), 1)
    params = {}
    for place in places:
        shapes = place.shapes(input_size)
        found = [arrays[key] for key in place.keys(bias)]
        for key, array, shape in zip(place.keys(bias), found, shapes, strict=False):
            _check_shape(key, array, shape, place.cell)
        found += [np.zeros(shape) for shape in shapes[len(found) :]]
        merged, dtype = _merged(place.cell, *found), place.cell.param_dtype
        for name, array in merged._asdict().items():
            params[f"{place.path}/{name}"] = jnp.asarray(array, dtype)
    return {"params": unflatten_dict(params, sep="/")}


def to_torch(
    net: nn.Module, variables: Mapping[str, Any], *, bias: bool = True
) -> dict[str, np.ndarray]:
    """Return the state dict of PyTorch's network, NumPy arrays with PyTorch's names, in its order.

        weight_ih = input_kernel^T,   weight_hh = recurrent_kernel^T
        bias_ih = bias,   bias_hh = 0   (GRU: bias_hh = (0, 0, recurrent_bias))

    `load_state_dict({key: torch.from_numpy(a) for key, a in state_dict.items()})` takes them up.
    A state dict does not contain the activation: construct the `torch.nn.RNN` with `net`'s.

    Args:
        net: as for `from_torch`.
        variables: the variables of `net`, of which "params" are read; arrays keep their type.
        bias: False leaves the biases out, for a network with `bias=False`; they must be zero.

    Raises:
        ValueError: parameters are missing, left over or of a wrong shape, biases are not zero
            where `bias` is False, or `net` is one that PyTorch does not have.
        TypeError: a layer or a cell is of an unsupported type.

    Source: PyTorch documentation, torch.nn.RNN, torch.nn.LSTM, torch.nn.GRU.
    """
    places = _places(net)
    params = flatten_dict(variables.get("params", {}), sep="/")
    kinds = [GRUParams if type(place.cell) is GRU else GatedParams for place in places]
    named = [
        [f"{place.path}/{name}" for name in kind._fields]
        for place, kind in zip(places, kinds, strict=True)
    ]
    _check_keys("variables['params']", params, [name for names in named for name in names])
    state_dict, input_size = {}, 0
    for place, kind, names in zip(places, kinds, named, strict=True):
        found = kind(*(np.asarray(params[name]) for name in names))
        input_size = input_size or next(iter(found.input_kernel.shape[:1]), 1)
        shapes = [shape[::-1] for shape in place.shapes(input_size)[:3]]
        shapes.append((place.cell.features,))
        for name, array, shape in zip(names, found, shapes, strict=False):
            _check_shape(name, array, shape, place.cell)
        if not bias and any(np.any(array) for array in found[2:]):
            raise ValueError(f"biases must be zero for bias=False; those of {place.path} are not")
        arrays = (np.array(array, order="C") for array in _separated(place.cell, found))
        state_dict |= zip(place.keys(bias), arrays, strict=False)
    return state_dict


def _merged(cell, weight_ih, weight_hh, bias_ih, bias_hh):
    """Return our parameters of one direction of one layer, with PyTorch's numbers."""
    if type(cell) is not GRU:
        return GatedParams(weight_ih.T, weight_hh.T, bias_ih + bias_hh)
    outside, inside = np.split(bias_hh, [2 * cell.features])
    bias = bias_ih + np.concatenate([outside, np.zeros_like(inside)])
    return GRUParams(weight_ih.T, weight_hh.T, bias, inside)


def _separated(cell, params):
    """Return the arrays that `_merged` makes into these parameters, by the order of `NAMES`."""
    bias_hh = np.zeros_like(params.bias)
    if type(cell) is GRU:
        bias_hh[2 * cell.features :] = params.recurrent_bias
    return params.input_kernel.T, params.recurrent_kernel.T, params.bias, bias_hh


def _places(net):
    """Return a `Place` for each direction of each layer, in PyTorch's order."""
    stacked = type(net) is Stack
    if stacked and net.residual:
        raise ValueError("residual must be False: PyTorch has no residual layers")
    if stacked and not net.layers:
        raise ValueError("layers must hold at least one layer, got none")
    places, rnns, directions = [], [], []
    for i, layer in enumerate(net.layers if stacked else [net]):
        found = {"": layer}
        if type(layer) is Bidirectional:
            if layer.merge_fn is not concatenate:
                raise ValueError(f"merge_fn must be concatenate, got {layer.merge_fn!r}")
            found = {"forward_rnn/": layer.forward_rnn, "backward_rnn/": layer.backward_rnn}
        directions.append(len(found))
        for name, rnn in found.items():
            backward = name == "backward_rnn/"
            _check_rnn(rnn, backward)
            rnns.append(rnn)
            path = f"{f'layers_{i}/' if stacked else ''}{name}cell"
            input_size = len(found) * rnn.cell.features if i else None
            suffix = f"l{i}_reverse" if backward else f"l{i}"
            places.append(Place(path, suffix, rnn.cell, input_size))
    if len(set(directions)) > 1:
        raise ValueError("layers must be all RNN or all Bidirectional, as PyTorch's are")
    kinds = [_described(rnn.cell) for rnn in rnns]
    if len(set(kinds)) > 1:
        raise ValueError(f"cells must be all alike, as PyTorch's are; got {', '.join(kinds)}")
    if len(set(map(id, rnns))) < len(rnns):
        raise ValueError("each layer and direction must have weights of its own")
    return places


def _check_rnn(rnn, backward):
    if type(rnn) is not RNN:
        kind = type(rnn).__name__
        raise TypeError(
            f"net must be RNN, Bidirectional of two RNN, or Stack of either; got {kind}"
        )
    if type(rnn.cell) not in (Elman, LSTM, GRU):
        raise TypeError(f"cell must be Elman, LSTM or GRU, got {type(rnn.cell).__name__}")
    if type(rnn.cell) is Elman and rnn.cell.activation_fn not in (jnp.tanh, jax.nn.relu):
        raise ValueError(
            f"activation_fn must be jnp.tanh or jax.nn.relu, got {rnn.cell.activation_fn!r}"
        )
    if rnn.initial_carry_init is not None:
        raise ValueError("initial_carry_init must be None: PyTorch learns no initial state")
    if rnn.reverse and not backward:
        raise ValueError("reverse must be False: PyTorch reads backwards in Bidirectional only")


def _described(cell):
    activation = f", {cell.activation_fn.__name__}" if type(cell) is Elman else ""
    return f"{type(cell).__name__}(features={cell.features}{activation})"


def _check_keys(name, got, want):
    problems = {"missing": [key for key in want if key not in got]}
    problems["left over"] = [key for key in got if key not in want]
    if any(problems.values()):
        said = "; ".join(f"{what}: {_listed(keys)}" for what, keys in problems.items() if keys)
        span = want[0] if len(want) == 1 else f"{len(want)} keys, {want[0]} to {want[-1]}"
        raise ValueError(f"{name} must have {span}; {said}")


def _listed(keys):
    return ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")


def _check_shape(name, array, shape, cell):
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape} in {_described(cell)}, got {array.shape}")


def _to_numpy(key, array):
    """Return a tensor or an array in float64, in which the sum of two biases is rounded once."""
    if isinstance(array, _Tensor):
        tensor = array.detach().cpu()
        try:
            array = tensor.numpy()
        except TypeError:  # a type that NumPy lacks: bfloat16
            array = tensor.float().numpy()
    array = np.asarray(array)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{key} must be of a floating type, got {array.dtype}")
    return array.astype(np.float64)
