"""Builds a detector's graph again, operation by operation, some of them otherwise.

TFOD's exporter prepares the pictures of a batch one by one, in a loop over lists of tensors. Its SavedModels take a
batch of one, so the loop's body runs once; here it stands in the loop's place.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

from tfllv import contracts
from tfllv.runner import networks

# Takes an operation and its inputs in the new graph; returns its outputs there, or None: it is to be copied.
Rule = Callable[[Any, list[Any]], Sequence[Any] | None]

_LOOPS = ("While", "StatelessWhile")
_BRANCHES = ("If", "StatelessIf")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_PASSING = ("Identity", "IdentityN", "StopGradient")


@dataclasses.dataclass(frozen=True)
class Detector:
    """A signature whose weights are constants.

    Attributes:
      graph: its graph.
      picture: its input, [1, H, W, 3] of 0 to 255.
      outputs: name -> tensor.
      functions: name -> definition, of what loops, branches and calls run.
      once: whether its one loop is that over pictures, of which there is one.
    """

    graph: Any
    picture: Any
    outputs: dict[str, Any]
    functions: Mapping[str, Any]
    once: bool


def freeze(function: Any) -> Detector:
    """Takes a detector's signature apart.

    Raises:
      ValueError: if its loops are those of TensorFlow 1.
    """
    frozen = convert_variables_to_constants_v2(function, lower_control_flow=False, aggressive_inlining=True)
    outputs = dict(zip(sorted(function.structured_outputs), frozen.outputs, strict=True))
    for name, tensor in outputs.items():
        tensor.set_shape(function.structured_outputs[name].shape)
    operations = frozen.graph.get_operations()
    if any(op.type == "Merge" for op in operations):
        raise ValueError("`--saved_model` must have loops of TensorFlow 2. Received: one with loops of TensorFlow 1.")
    functions = {each.signature.name: each for each in frozen.graph.as_graph_def(add_shapes=True).library.function}
    (picture,) = frozen.inputs
    return Detector(frozen.graph, picture, outputs, functions, _is_over_pictures(operations, functions))


def _is_over_pictures(operations: Sequence[Any], functions: Mapping[str, Any]) -> bool:
    loops = [op for op in operations if op.type in _LOOPS]
    nested = any(node.op in _LOOPS for function in functions.values() for node in function.node_def)
    if len(loops) != 1 or nested:
        return False
    lists = [tensor.op for tensor in loops[0].inputs if tensor.op.type == "TensorListFromTensor"]
    return bool(lists) and all(op.inputs[0].shape[:1] == [1] for op in lists)


@dataclasses.dataclass(frozen=True)
class Teller:
    """Builds a detector again.

    Attributes:
      detector: see `freeze`.
      rules: type of operation -> what stands in its place; the others are copied.
      types: a type of numbers -> what stands in its place, in the copies.
    """

    detector: Detector
    rules: Mapping[str, Rule]
    types: Mapping[tf.DType, tf.DType] = dataclasses.field(default_factory=dict)

    def build(self, outputs: Sequence[str], given: Sequence[str] = ()) -> Any:
        """Builds a function.

        Args:
          outputs: the names to keep, where the detector has them.
          given: those outputs that become inputs too: what is computed from them is computed from what is given.

        Returns:
          A concrete function: `image` [1, H, W, 3] float32 in [0, 1], and those `given` -> the named tensors.
        """
        picture = self.detector.picture
        tensors = {name: _source(tensor) for name, tensor in self.detector.outputs.items()}
        wanted = {name: tensors[name] for name in outputs if name in tensors}

        def detect(image: tf.Tensor, **values: tf.Tensor) -> dict[str, tf.Tensor]:
            known = {picture.name: self._typed(networks.from_float(image, tf.uint8), picture.dtype)}
            instead = {tensors[name].name: self._typed(values[name], tensors[name].dtype) for name in given}
            return dict(zip(wanted, self._tell(known, list(wanted.values()), instead), strict=True))

        spec = tf.TensorSpec([1, None, None, 3], tf.float32, name=contracts.IMAGE)
        others = {name: tf.TensorSpec(tensors[name].shape, tensors[name].dtype) for name in given}
        return tf.function(detect, autograph=False).get_concrete_function(spec, **others)

    def _tell(self, known: Mapping[str, Any], wanted: Sequence[Any], instead: Mapping[str, Any]) -> list[Any]:
        """Builds in the present graph what some tensors of the detector's, or of a function's, depend on.

        Args:
          known: the name of a tensor there -> what it is here.
          wanted: tensors there.
          instead: the name of a tensor there -> what others here take in place of it.

        Returns:
          What the wanted ones are here.
        """
        here, told = dict(known), dict(known)
        rules = {**self._control, **(_LISTS if self.detector.once else {}), **self.rules}
        for op in _before(wanted, here):
            inputs = [here[each.name] for each in op.inputs]
            outputs = rules[op.type](op, inputs) if op.type in rules else None
            if outputs is None:
                outputs = self._copy(op, inputs)
            for tensor, made in zip(op.outputs, outputs, strict=True):
                if tensor.dtype != tf.variant:
                    made.set_shape(tensor.shape)
                told[tensor.name] = made
                here[tensor.name] = instead.get(tensor.name, made)
        return [told[tensor.name] for tensor in wanted]

    def _typed(self, tensor: Any, dtype: tf.DType) -> Any:
        return tensor if dtype == tf.variant else tf.cast(tensor, self.types.get(dtype, dtype))

    @functools.cached_property
    def _control(self) -> dict[str, Rule]:
        """Of operations that run functions: these are told too. What hands its inputs on is left out."""

        def branch(op: Any, inputs: list[Any]) -> list[Any]:
            (then, _), (other, _) = self._function(op, "then_branch"), self._function(op, "else_branch")
            return tf.cond(inputs[0], lambda: then(*inputs[1:]), lambda: other(*inputs[1:]))

        def loop(op: Any, inputs: list[Any]) -> list[Any]:
            body, shapes = self._function(op, "body")
            if self.detector.once:
                return body(*inputs)
            goes_on, _ = self._function(op, "cond")
            return tf.while_loop(lambda *each: goes_on(*each)[0], body, inputs, shape_invariants=shapes)

        def call(op: Any, inputs: list[Any]) -> list[Any]:
            return self._function(op, "f")[0](*inputs)

        rules = {**dict.fromkeys(_BRANCHES, branch), **dict.fromkeys(_LOOPS, loop), **dict.fromkeys(_CALLS, call)}
        return {**rules, **dict.fromkeys(_PASSING, lambda op, inputs: inputs)}

    def _function(self, op: Any, attribute: str) -> tuple[Callable[..., list[Any]], list[tf.TensorShape]]:
        """A function that an operation runs, and the shapes of what it takes."""
        with self.detector.graph.as_default():  # which knows the functions that this one calls
            body = function_def_to_graph(self.detector.functions[op.get_attr(attribute).name])
        names = [tensor.name for tensor in body.inputs]

        def run(*values: Any) -> list[Any]:
            return self._tell(dict(zip(names, values, strict=True)), body.outputs, {})

        return run, [tensor.shape for tensor in body.inputs]

    def _copy(self, op: Any, inputs: list[Any]) -> list[Any]:
        """Builds an operation as it is, in the other types or, where it has none of them, in its own."""
        if _allows(op, self.types):
            return copy(op, inputs, self.types)
        own = [
            each if each.dtype == before.dtype else tf.cast(each, before.dtype)
            for each, before in zip(inputs, op.inputs, strict=True)
        ]
        return [self._typed(each, before.dtype) for each, before in zip(copy(op, own, {}), op.outputs, strict=True)]


def _allows(op: Any, types: Mapping[tf.DType, tf.DType]) -> bool:
    """Whether an operation is defined for other types: some take or give float32 alone."""
    changed = {old.as_datatype_enum: new.as_datatype_enum for old, new in types.items()}
    definition = op.op_def
    for attribute in definition.attr:
        allowed = attribute.allowed_values.list.type
        other = changed.get(op.node_def.attr[attribute.name].type)
        if other is not None and allowed and other not in allowed:
            return False
    return not any(each.type in changed for each in (*definition.input_arg, *definition.output_arg))


def copy(op: Any, inputs: list[Any], types: Mapping[tf.DType, tf.DType]) -> list[Any]:
    """Builds an operation in the present graph as it is, but for the types of its numbers."""
    changed = {old.as_datatype_enum: new.as_datatype_enum for old, new in types.items()}
    attributes = {}
    for name, value in op.node_def.attr.items():
        attributes[name] = type(value)()
        attributes[name].CopyFrom(value)
        if value.type in changed:
            attributes[name].type = changed[value.type]
        for index, each in enumerate(value.list.type):
            attributes[name].list.type[index] = changed.get(each, each)
    outputs = [types.get(tensor.dtype, tensor.dtype) for tensor in op.outputs]
    graph: Any = tf.compat.v1.get_default_graph()
    return list(graph.create_op(op.type, inputs, outputs, name=op.name, attrs=attributes).outputs)


# The stack of the one item that a list holds; before that is written, nothing reads it.
_LISTS: dict[str, Rule] = {
    "TensorListFromTensor": lambda op, inputs: inputs[:1],
    "TensorListReserve": lambda op, inputs: [tf.zeros([0])],
    "TensorListGetItem": lambda op, inputs: [inputs[0][0]],
    "TensorListSetItem": lambda op, inputs: [inputs[2][None]],
    "TensorListStack": lambda op, inputs: inputs[:1],
}


def _before(wanted: Sequence[Any], known: Mapping[str, Any]) -> list[Any]:
    """Returns the operations that give the wanted tensors, each after those that it depends on."""
    ordered: dict[Any, None] = {}
    open_ops = [tensor.op for tensor in wanted if tensor.name not in known]
    while open_ops:
        op = open_ops[-1]
        ahead = [each.op for each in op.inputs if each.name not in known and each.op not in ordered]
        if ahead and op not in ordered:
            open_ops += ahead
        else:
            ordered[open_ops.pop()] = None
    return list(ordered)


def _source(tensor: Any) -> Any:
    """Returns where a tensor comes from, past what hands it on unchanged."""
    while tensor.op.type in _PASSING:
        tensor = tensor.op.inputs[tensor.value_index]
    return tensor
