"""Weights from and to PyTorch: the state dicts of `torch.nn.RNN`, `torch.nn.LSTM`, `torch.nn.GRU`.

PyTorch names the parameters of each direction of each layer `weight_ih_l0`, `weight_hh_l0`,
`bias_ih_l0`, `bias_hh_l0` and, of an LSTM with projections, `weight_hr_l0`; higher layers end in
`_l1` and so on, backward directions in `_l0_reverse`. Gate blocks are in our order: i, f, g, o and
r, z, n. PyTorch is not needed.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.cells import GRU, LSTM, LSTMP, Elman, GatedParams, GRUParams, LSTMPParams
from rnnjax.interop.nets import (
    Library,
    Place,
    check_keys,
    check_no_bias,
    check_shape,
    described,
    find_places,
    params_of,
    to_numpy,
    variables_of,
)
from rnnjax.layers import concatenate

PYTORCH = Library("PyTorch", (Elman, LSTM, LSTMP, GRU), {"concatenate": concatenate})


def from_torch(net: nn.Module, state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return variables for `net.apply` with the weights of a `torch.nn.RNN`, `LSTM` or `GRU`.

        input_kernel = weight_ih^T,   recurrent_kernel = weight_hh^T,   bias = bias_ih + bias_hh
        GRU: bias = bias_ih + (bias_hh_r, bias_hh_z, 0),   recurrent_bias = bias_hh_n
        LSTMP (`proj_size` in PyTorch): projection_kernel = weight_hr^T

    Without biases (`bias=False` in PyTorch) ours are zero. A state dict contains neither the
    activation nor the dropout rate: give `net` those that the network was trained with.

    Args:
        net: `RNN(cell)` with an `Elman` cell of tanh or relu, an `LSTM`, an `LSTMP` or a `GRU`;
            `Bidirectional` of two that puts outputs side by side; or a `Stack` of either, all
            alike.
        state_dict: NumPy arrays or PyTorch tensors of any floating type, on any device. Parameters
            have the cell's `param_dtype`.

    Raises:
        ValueError: a key is missing or left over, a shape differs, or `net` is one that PyTorch
            does not have.
        TypeError: a layer, a cell or an array is of an unsupported type.

    Source: PyTorch documentation, torch.nn.RNN, torch.nn.LSTM, torch.nn.GRU.
    """
    places = _places(net)
    if not isinstance(state_dict, Mapping):
        kind = type(state_dict).__name__
        raise TypeError(f"state_dict must be what state_dict() of a module returns, got {kind}")
    for key in state_dict:
        if key.startswith("weight_hr_l") and type(places[0].cell) is LSTM:
            raise ValueError(
                f"{key}: the network has projections (proj_size); its cell is LSTMP(features, "
                f"proj_size), got {described(places[0].cell)}"
            )
    bias = any(key.startswith("bias_") for key in state_dict)
    check_keys("state_dict", state_dict, [key for place in places for key in _keys(place, bias)])
    arrays = {key: to_numpy(key, array) for key, array in state_dict.items()}
    input_size = next(iter(arrays["weight_ih_l0"].shape[-1:]), 1)
    params = []
    for place in places:
        shapes, found = _shapes(place, input_size), {}
        for key in _keys(place, bias):
            name = key.removesuffix(f"_{_suffix(place)}")
            found[name] = arrays[key]
            check_shape(key, found[name], shapes[name], place.cell)
        blank = {name: np.zeros(shape) for name, shape in shapes.items() if name not in found}
        params.append(_merged(place.cell, **found, **blank))
    return variables_of(places, params)


def to_torch(
    net: nn.Module, variables: Mapping[str, Any], *, bias: bool = True
) -> dict[str, np.ndarray]:
    """Return the state dict of PyTorch's network, NumPy arrays with PyTorch's names, in its order.

        weight_ih = input_kernel^T,   weight_hh = recurrent_kernel^T
        bias_ih = bias,   bias_hh = 0   (GRU: bias_hh = (0, 0, recurrent_bias))
        LSTMP: weight_hr = projection_kernel^T

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
    params = params_of(places, variables)
    if not bias:
        check_no_bias(places, params)
    state_dict = {}
    for place, own in zip(places, params, strict=True):
        named = _separated(place.cell, own)
        for key in _keys(place, bias):
            array = named[key.removesuffix(f"_{_suffix(place)}")]
            state_dict[key] = np.array(array, order="C")
    return state_dict


def _suffix(place: Place) -> str:
    return f"l{place.layer}{'_reverse' if place.backward else ''}"


def _keys(place: Place, bias: bool) -> list[str]:
    """Return PyTorch's keys of one direction of one layer, in its order."""
    names = ["weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if bias else ())]
    names += ["weight_hr"] if type(place.cell) is LSTMP else []
    return [f"{name}_{_suffix(place)}" for name in names]


def _shapes(place: Place, input_size: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of PyTorch's arrays, if the first layer takes inputs `[.., D]`."""
    ours = place.shapes(input_size)
    shapes = {"weight_ih": ours["input_kernel"][::-1], "weight_hh": ours["recurrent_kernel"][::-1]}
    shapes |= {"bias_ih": ours["bias"], "bias_hh": ours["bias"]}
    if type(place.cell) is LSTMP:
        shapes["weight_hr"] = ours["projection_kernel"][::-1]
    return shapes


def _merged(cell, weight_ih, weight_hh, bias_ih, bias_hh, weight_hr=None):
    """Return our parameters of one direction of one layer, with PyTorch's numbers."""
    if type(cell) is GRU:
        outside, inside = np.split(bias_hh, [2 * cell.features])
        bias = bias_ih + np.concatenate([outside, np.zeros_like(inside)])
        return GRUParams(weight_ih.T, weight_hh.T, bias, inside)
    both = weight_ih.T, weight_hh.T, bias_ih + bias_hh
    return GatedParams(*both) if weight_hr is None else LSTMPParams(*both, weight_hr.T)


def _separated(cell, params):
    """Return the arrays that `_merged` makes into these parameters, by PyTorch's names."""
    bias_hh = np.zeros_like(params.bias)
    if type(cell) is GRU:
        bias_hh[2 * cell.features :] = params.recurrent_bias
    named = {"weight_ih": params.input_kernel.T, "weight_hh": params.recurrent_kernel.T}
    named |= {"bias_ih": params.bias, "bias_hh": bias_hh}
    return named | ({"weight_hr": params.projection_kernel.T} if type(cell) is LSTMP else {})


def _places(net):
    """Return a `Place` for each direction of each layer, in PyTorch's order."""
    places = find_places(net, PYTORCH)
    for place in places:
        _check_cell(place.cell)
        if place.rnn.reverse and not place.backward:
            raise ValueError("reverse must be False: PyTorch reads backwards in Bidirectional only")
    directions = [sum(place.layer == i for place in places) for i in range(places[-1].layer + 1)]
    if len(set(directions)) > 1:
        raise ValueError("layers must be all RNN or all Bidirectional, as PyTorch's are")
    kinds = [described(place.cell) for place in places]
    if len(set(kinds)) > 1:
        raise ValueError(f"cells must be all alike, as PyTorch's are; got {', '.join(kinds)}")
    return places


def _check_cell(cell):
    if type(cell) is Elman and cell.activation_fn not in (jnp.tanh, jax.nn.relu):
        raise ValueError(
            f"activation_fn must be jnp.tanh or jax.nn.relu, got {cell.activation_fn!r}"
        )
    if type(cell) is LSTMP and cell.proj_size >= cell.features:
        raise ValueError(
            f"proj_size must be smaller than features = {cell.features}, as PyTorch's is; got "
            f"{cell.proj_size}"
        )
