"""Decodes shards with TFOD's own decoder and writes what it gave as .npz: `decode_with_tfod.py OUT SHARD...`.

A script of its own, because the imports of a package of 2022 need help on today's TensorFlow which no other test
should see: its message classes were generated in a form that protocol buffers no longer execute, so they are built
from the descriptors that lie in the files; and two modules that it imports are not installed or have moved.
"""

from __future__ import annotations

import ast
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types


class MessageFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads `object_detection.protos.*_pb2` from their serialized descriptors."""

    def find_spec(self, name, path=None, target=None):
        if not (name.startswith("object_detection.protos.") and name.endswith("_pb2")):
            return None
        found = importlib.machinery.PathFinder.find_spec(name, path, target)
        return importlib.util.spec_from_loader(name, self, origin=found.origin)

    def exec_module(self, module):
        from google.protobuf import descriptor_pool
        from google.protobuf.internal import builder

        with open(module.__spec__.origin, encoding="utf-8") as stream:
            tree = ast.parse(stream.read())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module == "object_detection.protos":
                for alias in node.names:
                    importlib.import_module(f"{node.module}.{alias.name}")
        calls = (keyword for node in ast.walk(tree) if isinstance(node, ast.Call) for keyword in node.keywords)
        data = next(ast.literal_eval(keyword.value) for keyword in calls if keyword.arg == "serialized_pb")
        descriptor = descriptor_pool.Default().AddSerializedFile(data)
        builder.BuildMessageAndEnumDescriptors(descriptor, module.__dict__)
        builder.BuildTopDescriptorsAndMessages(descriptor, module.__name__, module.__dict__)


def install() -> None:
    """Makes `object_detection` importable; to be called before TensorFlow is imported."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    sys.meta_path.insert(0, MessageFinder())
    import numpy as np
    import tensorflow as tf

    for name, value in (("float", float), ("bool", bool), ("int", int), ("object", object)):
        if name not in np.__dict__:
            setattr(np, name, value)
    from tensorflow.python.ops import control_flow_ops

    for name in ("case", "cond", "while_loop"):
        if not hasattr(control_flow_ops, name):
            setattr(control_flow_ops, name, getattr(tf.compat.v1, name))
    if importlib.util.find_spec("tensorflow_io") is None:
        sys.modules["tensorflow_io"] = types.ModuleType("tensorflow_io")


def main(output: str, *shards: str) -> None:
    install()
    import numpy as np
    import tensorflow as tf
    from object_detection.data_decoders import tf_example_decoder
    from object_detection.protos import input_reader_pb2

    decoder = tf_example_decoder.TfExampleDecoder(
        load_instance_masks=True,
        instance_mask_type=input_reader_pb2.PNG_MASKS,
        dct_method="INTEGER_ACCURATE",
    )
    found = {}
    for number, record in enumerate(tf.data.TFRecordDataset(list(shards))):
        for key, value in decoder.decode(record).items():
            found[f"{number}/{key}"] = value.numpy()
    np.savez(output, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
