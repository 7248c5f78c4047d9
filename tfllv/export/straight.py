"""A detector's graph in operations that every converter knows: without its loop, and with crops in plain steps.

TFOD's exporter prepares the pictures of a batch one by one, in a loop over lists of tensors. Its SavedModels take a
batch of one, so the loop's body runs once; here it stands in the loop's place. Two-stage detectors cut their proposals
out of the features by `CropAndResize`, for which LiteRT has no kernel; here they gather the four neighbours of each
place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

from tfllv import contracts
from tfllv.runner import networks

_LOOPS = ("While", "StatelessWhile")
# Into a list, one out of it, one into it, out of it.
_SCATTER, _READ, _WRITE, _GATHER = "TensorListFromTensor", "TensorListGetItem", "TensorListSetItem", "TensorListStack"
_PASSING = ("Identity", "StopGradient")


def straighten(function: Any, key: str, dtype: tf.DType, outputs: Sequence[str]) -> Any:
    """Makes a function without loops out of a detector's signature.

    Args:
      function: the signature: one picture [1, H, W, 3] of 0 to 255 -> named tensors.
      key: the name of its input.
      dtype: of its input.
      outputs: the names to keep, where the signature has them.

    Returns:
      A concrete function: `image` [1, H, W, 3] float32 in [0, 1] -> the named tensors. Weights are constants in it.

    Raises:
      ValueError: if the graph has another loop than that over the pictures.
    """
    frozen = convert_variables_to_constants_v2(function, lower_control_flow=False, aggressive_inlining=True)
    shapes = {name: function.structured_outputs[name].shape for name in sorted(function.structured_outputs)}
    names = dict(zip(shapes, (tensor.name for tensor in frozen.outputs), strict=True))
    names = {name: names[name] for name in outputs if name in names}
    loops = [op for op in frozen.graph.get_operations() if op.type in _LOOPS]
    if len(loops) > 1:
        raise ValueError(
            "`--format` must be saved_model or onnx for this detector: LiteRT has no kernels for its loops but the one "
            f"over pictures, which all have. Received: {len(loops)} loops."
        )

    def detect(image: tf.Tensor) -> dict[str, tf.Tensor]:
        known = {f"{key}:0": tf.cast(networks.from_float(image, tf.uint8), dtype)}
        for loop in loops:
            known |= _run_once(frozen.graph, loop, known)
        found = _run(frozen.graph, known, list(names.values()))
        return {name: _shaped(value, shapes[name]) for name, value in zip(names, found, strict=True)}

    picture = tf.TensorSpec([1, None, None, 3], tf.float32, name=contracts.IMAGE)
    return tf.function(detect, input_signature=[picture], autograph=False).get_concrete_function()


def _run(graph: Any, known: Mapping[str, tf.Tensor], wanted: Sequence[str]) -> list[tf.Tensor]:
    """Computes tensors of a graph, by name, from others that are given; nothing else of it comes along."""
    definition = graph.as_graph_def()
    given = {_node_of(name) for name in known}
    for node in definition.node:
        if node.name in given:  # what lies before it is not needed
            node.op = "Placeholder"
            del node.input[:]
            dtype = graph.get_tensor_by_name(f"{node.name}:0").dtype
            node.attr.clear()
            node.attr["dtype"].type = dtype.as_datatype_enum
    _add_axes_plainly(definition)
    _crop_plainly(definition)
    left = _keep_before(definition, wanted)
    feeds = {name: tensor for name, tensor in known.items() if _node_of(name) in left}
    return tf.graph_util.import_graph_def(definition, input_map=feeds, return_elements=list(wanted), name="")


def _keep_before(definition: Any, wanted: Sequence[str]) -> set[str]:
    """Removes the nodes on which the wanted tensors do not depend; returns the names of the others."""
    nodes = {node.name: node for node in definition.node}
    left: set[str] = set()
    open_names = [_node_of(name) for name in wanted]
    while open_names:
        name = open_names.pop()
        if name not in left:
            left.add(name)
            open_names += [_node_of(source) for source in nodes[name].input]
    kept = [node for name, node in nodes.items() if name in left]
    del definition.node[:]
    definition.node.extend(kept)
    return left


def _node_of(tensor: str) -> str:
    """The node of `name`, `name:0` or `^name`."""
    return tensor.lstrip("^").split(":")[0]


def _add_axes_plainly(definition: Any) -> None:
    """Rewrites `tensor[None]`, a slice that LiteRT knows of fixed sizes alone, as `tf.expand_dims`."""
    zero = definition.node.add(name="straight/zero", op="Const")
    zero.attr["dtype"].type = tf.int32.as_datatype_enum
    zero.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(0, tf.int32))
    for node in definition.node:
        if node.op != "StridedSlice":
            continue
        masks = {key: node.attr[f"{key}_mask"].i for key in ("begin", "end", "new_axis", "shrink_axis", "ellipsis")}
        whole = masks["begin"] == masks["end"] and masks["begin"] & (masks["begin"] + 2) == 0  # 0b1...10
        if whole and (masks["new_axis"], masks["shrink_axis"]) == (1, 0):
            kind = node.attr["T"].type
            del node.input[1:]
            node.input.append(zero.name)
            node.op = "ExpandDims"
            node.attr.clear()
            node.attr["T"].type, node.attr["Tdim"].type = kind, tf.int32.as_datatype_enum


def _crop_plainly(definition: Any) -> None:
    """Rewrites `CropAndResize` as a call of `crop`, which the converter writes out in its place."""
    nodes = [node for node in definition.node if node.op == "CropAndResize"]
    for kind in {(node.attr["method"].s.decode() or "bilinear", node.attr["extrapolation_value"].f) for node in nodes}:
        if kind != ("bilinear", 0.0):
            raise ValueError(f"`CropAndResize` must be bilinear and 0 outside of the picture. Received: {kind}.")
    if not nodes:
        return
    function = tf.function(crop, autograph=False).get_concrete_function(
        tf.TensorSpec([None, None, None, None]),
        tf.TensorSpec([None, 4]),
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([2], tf.int32),
    )
    function.add_to_graph(definition_graph := tf.Graph())
    definition.library.MergeFrom(definition_graph.as_graph_def().library)
    for node in nodes:
        node.op = "PartitionedCall"
        node.attr.clear()
        node.attr["f"].func.name = function.name
        node.attr["Tin"].list.type.extend(tensor.dtype.as_datatype_enum for tensor in function.inputs)
        node.attr["Tout"].list.type.append(tf.float32.as_datatype_enum)


def crop(images: tf.Tensor, boxes: tf.Tensor, picture: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Does what `tf.image.crop_and_resize` does by default, without an operation of that name.

    Args:
      images: [B, H, W, C] float32.
      boxes: [N, 4] float32 ymin, xmin, ymax, xmax; 0 and 1 are the centres of the first and last pixel.
      picture: [N] int32, which of `images` a box is of.
      size: [2] int32, height h and width w of a crop.

    Returns:
      [N, h, w, C] float32; 0 outside of the image.
    """
    shape = tf.shape(images)
    height, width, channels = shape[1], shape[2], shape[3]
    up, down, y, rows_inside = _neighbours(boxes[:, 0], boxes[:, 2], height, size[0])
    left, right, x, columns_inside = _neighbours(boxes[:, 1], boxes[:, 3], width, size[1])
    pixels = tf.reshape(images, [-1, channels])
    first = picture[:, None] * height

    def take(rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
        return tf.gather(pixels, ((first + rows) * width)[:, :, None] + columns[:, None, :])

    x, y = x[:, None, :, None], y[:, :, None, None]
    top = take(up, left) + (take(up, right) - take(up, left)) * x
    bottom = take(down, left) + (take(down, right) - take(down, left)) * x
    return (top + (bottom - top) * y) * (rows_inside[:, :, None] * columns_inside[:, None, :])[..., None]


def _neighbours(low: tf.Tensor, high: tf.Tensor, side: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Along one axis, for each of N boxes [N, count]: the pixels before and after, the share of the latter, inside."""
    last = tf.cast(side - 1, tf.float32)
    # A tensor, for LiteRT multiplies by the reciprocal of a constant: a box's last sample, on the border, may then
    # round to a place outside where it is inside by division, or the other way.
    steps = tf.cast(tf.maximum(count - 1, 1), tf.float32) + 0.0 * low
    one = tf.cast(tf.equal(count, 1), tf.float32)  # a single sample is in the middle
    start = (low + 0.5 * one * (high - low)) * last
    places = start[:, None] + tf.cast(tf.range(count), tf.float32) * ((high - low) * last / steps)[:, None]
    inside = tf.cast(tf.logical_and(places >= 0.0, places <= last), tf.float32)
    places = tf.clip_by_value(places, 0.0, last)
    before = tf.floor(places)
    after = tf.minimum(before + 1.0, last)
    return tf.cast(before, tf.int32), tf.cast(after, tf.int32), places - before, inside


def _run_once(graph: Any, loop: Any, known: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns what comes out of the loop's lists after its one turn: tensor's name -> [1, ...]."""
    (scatter,) = [op for op in graph.get_operations() if op.type == _SCATTER]
    (pictures,) = _run(graph, known, [scatter.inputs[0].name])
    library = {item.signature.name: item for item in graph.as_graph_def(add_shapes=True).library.function}
    body = function_def_to_graph(library[loop.get_attr("body").name])
    (read,) = [op for op in body.get_operations() if op.type == _READ]
    gathers = [op for op in graph.get_operations() if op.type == _GATHER]
    written = [_source(body.outputs[_source(op.inputs[0]).value_index]) for op in gathers]
    values = _run(body, {read.outputs[0].name: pictures[0]}, [tensor.op.inputs[2].name for tensor in written])
    return {
        op.outputs[0].name: _shaped(value[None], op.outputs[0].shape) for op, value in zip(gathers, values, strict=True)
    }


def _source(tensor: Any) -> Any:
    """Returns where a tensor comes from, past what hands it on unchanged."""
    while tensor.op.type in _PASSING:
        tensor = tensor.op.inputs[0]
    return tensor


def _shaped(tensor: tf.Tensor, shape: tf.TensorShape) -> tf.Tensor:
    """Tells a tensor's shape to those who build on it; `tf.ensure_shape` would be one more operation to convert."""
    tensor.set_shape(shape)
    return tensor
