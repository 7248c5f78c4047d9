"""Puts published PyTorch weights into the networks here: `import_weights("sgz", "Epoch99.pth")`.

A network joins by one function that names, for every PyTorch tensor, the variable it fills and how its axes are
turned, and by one line in `TENSORS`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tfllv import contracts, models
from tfllv.models.torch_file import read_state_dict

# Order in which PyTorch's axes are taken to give Keras's.
CONVOLUTION = (2, 3, 1, 0)  # [out, in, kh, kw] -> [kh, kw, in, out]
DEPTHWISE = (2, 3, 0, 1)  # [channels, 1, kh, kw] -> [kh, kw, channels, 1]
TRANSPOSED = (2, 3, 1, 0)  # [in, out, kh, kw] -> [kh, kw, out, in]
DENSE = (1, 0)  # [out, in] -> [in, out]
VECTOR = (0,)


class Target(NamedTuple):
    """Where a PyTorch tensor goes: a Keras variable, and the order in which the tensor's axes are taken."""

    variable: Any
    axes: tuple[int, ...]

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """The shape that the PyTorch tensor must have."""
        shape = [0] * len(self.axes)
        for side, axis in zip(self.variable.shape, self.axes, strict=True):
            shape[axis] = side
        return tuple(shape)


def curve_tensors(network: Any, *, inner: str = "") -> dict[str, Target]:
    """Tensors of SGZ, Zero-DCE and Zero-DCE++ as their authors publish them: `e_conv1` to `e_conv7`.

    Args:
      network: a `CurveNetwork`.
      inner: what stands between a plain convolution's number and its `weight`.

    Returns:
      PyTorch name -> target.
    """
    targets = {}
    for number, layer in enumerate(network.convolutions, start=1):
        if network.conv_type == "dsc":
            targets[f"e_conv{number}.depth_conv.weight"] = Target(layer.depthwise.kernel, DEPTHWISE)
            targets[f"e_conv{number}.depth_conv.bias"] = Target(layer.depthwise.bias, VECTOR)
            targets[f"e_conv{number}.point_conv.weight"] = Target(layer.pointwise.kernel, CONVOLUTION)
            targets[f"e_conv{number}.point_conv.bias"] = Target(layer.pointwise.bias, VECTOR)
        else:
            targets[f"e_conv{number}.{inner}weight"] = Target(layer.kernel, CONVOLUTION)
            targets[f"e_conv{number}.{inner}bias"] = Target(layer.bias, VECTOR)
    return targets


# Network -> the PyTorch tensors it needs. Every variable must be named once.
TENSORS: dict[str, Callable[[Any], dict[str, Target]]] = {
    "sgz": functools.partial(curve_tensors, inner="conv."),  # its plain convolution sits in a module of its own
    "zero_dce": curve_tensors,
    "zero_dce_pp": curve_tensors,
}


def import_weights(name: str, path: str | os.PathLike[str], model: Any = None) -> Any:
    """Reads published PyTorch weights into a network; nothing in the file is executed.

    Args:
      name: a network of `TENSORS`.
      path: a `.pth` or `.pt` file with its state dict, see `read_state_dict`.
      model: the network to fill; None builds `name` with its default options.

    Returns:
      The network with the weights. It is left as it was where an error is raised.

    Raises:
      ValueError: if there is no importer for `name`, the file cannot be read, or it does not fit; the message names
        every missing, unexpected, mis-shaped and non-finite tensor.
      OSError: if the file cannot be opened.
    """
    if name not in TENSORS:
        raise ValueError(
            f"`name` must be a network with a PyTorch importer. Received: name='{name}'; "
            f"{contracts.nearest_name(name, TENSORS)}"
        )
    state = read_state_dict(path)
    model = models.build(name) if model is None else model
    targets = TENSORS[name](model)
    faults = _faults(state, targets)
    if faults:
        raise ValueError(f"`{os.fspath(path)}` does not fit `{name}`: {'; '.join(faults)}.")
    for tensor, target in targets.items():
        target.variable.assign(np.ascontiguousarray(state[tensor].transpose(target.axes), np.float32))
    return model


def _faults(state: Mapping[str, np.ndarray], targets: Mapping[str, Target]) -> list[str]:
    """Says all that keeps a state dict from fitting, each kind in one phrase; [] where it fits."""
    missing = [tensor for tensor in targets if tensor not in state]
    unexpected = [tensor for tensor in state if tensor not in targets]
    shapes, values = [], []
    for tensor in targets.keys() & state.keys():
        expected, received = targets[tensor].torch_shape, state[tensor].shape
        if expected != received:
            shapes.append(f"{tensor} (expected {list(expected)}, received {list(received)})")
        elif state[tensor].dtype.kind != "f" or not np.isfinite(state[tensor]).all():
            values.append(tensor)
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": shapes, "not finite numbers": values}
    return [f"{kind}: {', '.join(sorted(names))}" for kind, names in kinds.items() if names]
