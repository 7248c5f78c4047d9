"""Parameters and multiply-accumulates of a network, counted on its graph."""

from __future__ import annotations

import math
from typing import Any

HEIGHT, WIDTH = 400, 600
PROTOCOL = (
    f"those of the network as it ran, with its options; MACs for one picture of {WIDTH}x{HEIGHT}: the "
    "multiply-accumulates of its convolutions and matrix products, from the traced graph; other work is not counted."
)
_CALLS = ("PartitionedCall", "StatefulPartitionedCall", "While", "StatelessWhile", "If", "StatelessIf")


def network_cost(network: Any, *, height: int = HEIGHT, width: int = WIDTH) -> dict[str, Any]:
    """Returns `parameters` and `macs` of a network.

    Args:
      network: a `keras.Model` on float32 [B, H, W, 3].
      height: of the picture, in pixels.
      width: likewise.
    """
    return {"parameters": int(network.count_params()), "macs": count_macs(network, height=height, width=width)}


def count_macs(network: Any, *, height: int, width: int) -> int | None:
    """Counts the multiply-accumulates of one call on [1, height, width, 3].

    Args:
      network: a callable on float32 tensors, such as a `keras.Model`.
      height: of the picture, in pixels.
      width: likewise.

    Returns:
      The count; None where the graph has shapes or calls that cannot be counted before it runs.
    """
    import tensorflow as tf

    traced = tf.function(lambda image: network(image, training=False), autograph=False)
    graph = traced.get_concrete_function(tf.TensorSpec([1, height, width, 3], tf.float32)).graph
    operations = graph.get_operations()
    if any(operation.type in _CALLS for operation in operations):
        return None
    counts = [_operation_macs(operation) for operation in operations]
    return None if None in counts else sum(count for count in counts if count is not None)


def _operation_macs(operation: Any) -> int | None:
    """Returns the multiply-accumulates of one graph operation; 0 for those that only work element by element."""
    if operation.type in ("Conv2D", "DepthwiseConv2dNative"):
        kernel, pixels = operation.inputs[1].shape, operation.outputs[0].shape
        # Kernels are [h, w, in, out] over outputs [n, y, x, out]; depthwise [h, w, in, times] over in * times.
        per_value = kernel[:3] if operation.type == "Conv2D" else kernel[:2]
    elif operation.type == "Conv2DBackpropInput":
        kernel, pixels = operation.inputs[1].shape, operation.inputs[2].shape
        per_value = kernel[:3]  # each input value spreads over h, w and the output channels
    elif operation.type in ("MatMul", "BatchMatMulV2"):
        left, pixels = operation.inputs[0].shape, operation.outputs[0].shape
        transposed = operation.get_attr("transpose_a" if operation.type == "MatMul" else "adj_x")
        per_value = left[-2:-1] if transposed else left[-1:]
    else:
        return 0
    sizes = [*pixels.as_list(), *per_value.as_list()]
    return None if None in sizes else math.prod(sizes)
