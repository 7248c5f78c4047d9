"""Puts published PyTorch weights into the networks here: `import_weights("sgz", "Epoch99.pth")`.

A network joins by one function that names, for every PyTorch tensor, the variable it fills and how its axes are
turned, and by one line in `TENSORS`. A tensor that PyTorch lists a second time, because a module is shared, is a
`Copy`; one that never changes is a `Constant`.
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


class Copy(NamedTuple):
    """A tensor that must equal another where the file has it: PyTorch lists a shared module under all its names."""

    of: str


class Constant(NamedTuple):
    """A tensor that holds a fixed filter and must equal it where the file has it."""

    value: np.ndarray


Entries = dict[str, Target | Copy | Constant]


def curve_tensors(network: Any, *, inner: str = "") -> Entries:
    """Tensors of SGZ, Zero-DCE and Zero-DCE++ as their authors publish them: `e_conv1` to `e_conv7`.

    Args:
      network: a `CurveNetwork`.
      inner: what stands between a plain convolution's number and its `weight`.

    Returns:
      PyTorch name -> target.
    """
    targets: Entries = {}
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


def mirnet_tensors(network: Any) -> Entries:
    """Tensors of MIRNet as its authors publish it: 797 names for a network of the default size.

    Args:
      network: a `mirnet.MIRNet`.

    Returns:
      PyTorch name -> target; the second dual attention unit of a stream is a copy of the first, and the slope of all
      units is one.
    """
    entries: Entries = {
        "conv_in.weight": Target(network.conv_in.kernel, CONVOLUTION),
        "conv_out.weight": Target(network.conv_out.kernel, CONVOLUTION),
    }
    for number, group in enumerate(network.groups):
        for index, block in enumerate(group.blocks):
            for name, entry in msrb_tensors(block).items():
                entries[f"body.{number}.body.{index}.{name}"] = entry
        entries[f"body.{number}.body.{len(group.blocks)}.weight"] = Target(group.conv_out.kernel, CONVOLUTION)
    return _merge_shared(entries)


def msrb_tensors(block: Any) -> Entries:
    """The same for one multi-scale block, `mirnet_blocks.MSRB`; shared variables are still named several times."""
    entries: Entries = {"conv_out.weight": Target(block.conv_out.kernel, CONVOLUTION)}

    def put(prefix: str, part: Entries) -> None:
        entries.update({f"{prefix}.{name}": entry for name, entry in part.items()})

    for stream, unit in enumerate(block.attention):
        for run in range(block.width):
            put(f"blocks.{stream}.{run}", dau_tensors(unit))
    for stream, fusion in enumerate(block.fusion):
        put(f"selective_kernel.{stream}", skff_tensors(fusion))
    for kind, table, tensors in (("down", block.down, halve_tensors), ("up", block.up, double_tensors)):
        for key, chain in table.items():
            of, to = map(int, key.split("_"))
            for step, layer in enumerate(chain.steps):
                put(f"{kind}.{block.widths[of]}_{2 ** abs(of - to)}.body.{step}", tensors(layer))
    for stream, chain in block.last_up.items():
        for step, layer in enumerate(chain.steps):
            put(f"last_up.{stream}.body.{step}", double_tensors(layer))
    return entries


def dau_tensors(unit: Any) -> Entries:
    """The same for `mirnet_blocks.DAU`."""
    return {
        "body.0.weight": Target(unit.conv1.kernel, CONVOLUTION),
        "body.1.weight": Target(unit.act.slope, VECTOR),
        "body.2.weight": Target(unit.conv2.kernel, CONVOLUTION),
        "SA.spatial.conv.weight": Target(unit.spatial.kernel, CONVOLUTION),
        "CA.conv_du.0.weight": Target(unit.squeeze.kernel, CONVOLUTION),
        "CA.conv_du.2.weight": Target(unit.expand.kernel, CONVOLUTION),
        "conv1x1.weight": Target(unit.join.kernel, CONVOLUTION),
    }


def skff_tensors(fusion: Any) -> Entries:
    """The same for `mirnet_blocks.SKFF`."""
    entries: Entries = {
        "conv_du.0.weight": Target(fusion.squeeze.kernel, CONVOLUTION),
        "conv_du.1.weight": Target(fusion.act.slope, VECTOR),
    }
    for index, layer in enumerate(fusion.expand):
        entries[f"fcs.{index}.weight"] = Target(layer.kernel, CONVOLUTION)
    return entries


def halve_tensors(layer: Any) -> Entries:
    """The same for `mirnet_blocks.Halve`; `filt` is the fixed blur."""
    blur = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32) / 16
    blur = np.tile(blur, (layer.conv1.kernel.shape[2], 1, 1, 1))
    return {
        "top.0.weight": Target(layer.conv1.kernel, CONVOLUTION),
        "top.1.weight": Target(layer.act1.slope, VECTOR),
        "top.2.weight": Target(layer.conv2.kernel, CONVOLUTION),
        "top.3.weight": Target(layer.act2.slope, VECTOR),
        "top.4.filt": Constant(blur),
        "top.5.weight": Target(layer.conv3.kernel, CONVOLUTION),
        "bot.0.filt": Constant(blur),
        "bot.1.weight": Target(layer.skip.kernel, CONVOLUTION),
    }


def double_tensors(layer: Any) -> Entries:
    """The same for `mirnet_blocks.Double`; `bot.0` is the interpolation, which has no tensor."""
    return {
        "top.0.weight": Target(layer.conv1.kernel, CONVOLUTION),
        "top.1.weight": Target(layer.act1.slope, VECTOR),
        "top.2.weight": Target(layer.conv2.kernel, TRANSPOSED),
        "top.3.weight": Target(layer.act2.slope, VECTOR),
        "top.4.weight": Target(layer.conv3.kernel, CONVOLUTION),
        "bot.1.weight": Target(layer.skip.kernel, CONVOLUTION),
    }


def diffusion_tensors(network: Any) -> Entries:
    """Tensors of the conditional U-Net as its authors publish it.

    Args:
      network: a `diffusion_unet.DiffusionUNet` with the reference's parts: no first skip, no squares, no guess.

    Returns:
      PyTorch name -> target.
    """
    entries: Entries = {
        "time_mlp.1.weight": Target(network.time1.kernel, DENSE),
        "time_mlp.1.bias": Target(network.time1.bias, VECTOR),
        "time_mlp.3.weight": Target(network.time2.kernel, DENSE),
        "time_mlp.3.bias": Target(network.time2.bias, VECTOR),
        "final_conv.1.weight": Target(network.out.kernel, CONVOLUTION),
        "final_conv.1.bias": Target(network.out.bias, VECTOR),
    }

    def put(prefix: str, part: Entries) -> None:
        entries.update({f"{prefix}.{name}": entry for name, entry in part.items()})

    for kind, levels in (("downs", network.down), ("ups", network.up)):
        for number, level in enumerate(levels):
            put(f"{kind}.{number}.0", convnext_tensors(level.block1))
            put(f"{kind}.{number}.1", convnext_tensors(level.block2))
            put(f"{kind}.{number}.2.fn", attention_tensors(level.attention))
            if level.resample is not None:
                axes = CONVOLUTION if kind == "downs" else TRANSPOSED
                put(f"{kind}.{number}.3", _both(level.resample, axes))
    put("mid_block1", convnext_tensors(network.middle1))
    put("mid_attn.fn", attention_tensors(network.middle_attention))
    put("mid_block2", convnext_tensors(network.middle2))
    put("final_conv.0", convnext_tensors(network.last))
    return entries


def convnext_tensors(block: Any) -> Entries:
    """The same for `diffusion_unet.ConvNextBlock`."""
    parts: dict[str, Entries] = {
        "ds_conv": _both(block.spatial, DEPTHWISE),
        "net.0": {"weight": Target(block.norm1.gamma, VECTOR), "bias": Target(block.norm1.beta, VECTOR)},
        "net.1": _both(block.conv1, CONVOLUTION),
        "net.3": {"weight": Target(block.norm2.gamma, VECTOR), "bias": Target(block.norm2.beta, VECTOR)},
        "net.4": _both(block.conv2, CONVOLUTION),
    }
    if block.time is not None:
        parts["mlp.1"] = _both(block.time, DENSE)
    if block.skip is not None:
        parts["res_conv"] = _both(block.skip, CONVOLUTION)
    return {f"{prefix}.{name}": target for prefix, part in parts.items() for name, target in part.items()}


def attention_tensors(attention: Any) -> Entries:
    """The same for `diffusion_unet.LinearAttention`."""
    return {
        "fn.to_qkv.weight": Target(attention.project.kernel, CONVOLUTION),
        "fn.to_out.weight": Target(attention.join.kernel, CONVOLUTION),
        "fn.to_out.bias": Target(attention.join.bias, VECTOR),
        "norm.weight": Target(attention.norm.gamma, VECTOR),
        "norm.bias": Target(attention.norm.beta, VECTOR),
    }


def _both(layer: Any, axes: tuple[int, ...]) -> Entries:
    return {"weight": Target(layer.kernel, axes), "bias": Target(layer.bias, VECTOR)}


def _merge_shared(entries: Entries) -> Entries:
    """Makes every later name of a variable a copy of its first."""
    first: dict[int, str] = {}
    merged: Entries = {}
    for name, entry in entries.items():
        owner = first.setdefault(id(entry.variable), name) if isinstance(entry, Target) else name
        merged[name] = entry if owner == name else Copy(owner)
    return merged


# Network -> the PyTorch tensors it needs. Every variable must be named once.
TENSORS: dict[str, Callable[[Any], Entries]] = {
    "diffusion_unet": diffusion_tensors,
    "mirnet": mirnet_tensors,
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
        if not isinstance(target, Target):
            continue
        target.variable.assign(np.ascontiguousarray(state[tensor].transpose(target.axes), np.float32))
    return model


def _faults(state: Mapping[str, np.ndarray], targets: Mapping[str, Target | Copy | Constant]) -> list[str]:
    """Says all that keeps a state dict from fitting, each kind in one phrase; [] where it fits."""
    missing = [name for name, target in targets.items() if isinstance(target, Target) and name not in state]
    unexpected = [name for name in state if name not in targets]
    shapes, values, apart = [], [], []
    for name in targets.keys() & state.keys():
        target, array = targets[name], state[name]
        if isinstance(target, Target):
            if target.torch_shape != array.shape:
                shapes.append(f"{name} (expected {list(target.torch_shape)}, received {list(array.shape)})")
            elif array.dtype.kind != "f" or not np.isfinite(array).all():
                values.append(name)
        elif isinstance(target, Copy):
            if target.of in state and not np.array_equal(state[target.of], array):
                apart.append(f"{name} (shared with {target.of})")
        elif not np.array_equal(target.value, array):
            apart.append(f"{name} (a fixed filter)")
    kinds = {
        "missing": missing,
        "unexpected": unexpected,
        "of another shape": shapes,
        "not finite numbers": values,
        "not equal to what they must be": apart,
    }
    return [f"{kind}: {', '.join(sorted(names))}" for kind, names in kinds.items() if names]
