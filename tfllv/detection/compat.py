"""Makes the TF Object Detection API of 2022 run, unedited, on today's TensorFlow; the only file that patches anything.

    from tfllv.detection import compat

    compat.install()                     # before TensorFlow or `object_detection` is imported
    from object_detection import model_lib_v2

    compat.protos("pipeline").TrainEvalPipelineConfig()     # needs no TensorFlow, and imports none

`PATCHES` holds every change that `install` makes, in the order in which they are made: what it does, since which
version of which package it has been necessary, and how to see whether it still is. `tests/detection/test_compat.py`
leaves each of them out in turn and expects the failure that it cures, so that a patch that is no longer necessary
fails its test and is removed here.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import math
import os
import pathlib
import sys
import types
from collections.abc import Callable, Collection, Mapping
from typing import Any

TFOD = "tf-models-research-object-detection==2.8.0.post1"
INSTALLATION = f'pip install "tfllv[detection]" && pip install --no-deps {TFOD}'

# What `object_detection` imports in training, evaluation and export, by import name. None of it is imported to check.
REQUIRED = ("object_detection", "tf_keras", "tf_slim", "official", "pycocotools")


@dataclasses.dataclass(frozen=True)
class Patch:
    """One change to a package that is not ours.

    Attributes:
      what: what it changes, and what for.
      since: the package and version from which it has been necessary.
      apply: makes the change.
      is_needed: whether the change is necessary here and has not been made; False once `apply` has run.
    """

    what: str
    since: str
    apply: Callable[[], None]
    is_needed: Callable[[], bool]


def _is_found(name: str) -> bool:
    """Whether a top-level module can be imported, or stands in for one that cannot."""
    return name in sys.modules or importlib.util.find_spec(name) is not None


# Protocol buffers: messages generated before protoc 3.19.


class _MessageLoader(importlib.machinery.SourceFileLoader):
    """Builds a `_pb2` module from the descriptor that its source holds, instead of executing that source.

    The old generator wrote each file's descriptor twice: as serialized bytes, and as calls that build it piece by
    piece. The calls are what protocol buffers 4 and later refuse; the bytes say the same.
    """

    def exec_module(self, module: types.ModuleType) -> None:
        from google.protobuf import descriptor_pool
        from google.protobuf.internal import builder

        tree = ast.parse(self.get_data(self.path), self.path)
        # A file enters the pool only after those it imports.
        for node in tree.body:
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if alias.name.endswith("_pb2"):
                        importlib.import_module(f"{node.module}.{alias.name}")
        serialized = _serialized_descriptor(tree)
        if serialized is None:
            raise ImportError(f"{self.path} holds no serialized descriptor; install the package anew: {INSTALLATION}")
        descriptor = descriptor_pool.Default().AddSerializedFile(serialized)
        module.__dict__["DESCRIPTOR"] = descriptor
        builder.BuildMessageAndEnumDescriptors(descriptor, module.__dict__)
        builder.BuildTopDescriptorsAndMessages(descriptor, module.__name__, module.__dict__)


def _serialized_descriptor(tree: ast.Module) -> bytes | None:
    """The bytes of `DESCRIPTOR = _descriptor.FileDescriptor(..., serialized_pb=b"...")`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            for keyword in node.value.keywords:
                if keyword.arg == "serialized_pb":
                    return ast.literal_eval(keyword.value)
    return None


class _MessageFinder(importlib.abc.MetaPathFinder):
    """Hands `object_detection.protos.*_pb2` to `_MessageLoader`."""

    def find_spec(
        self, fullname: str, path: Any = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not (fullname.startswith("object_detection.protos.") and fullname.endswith("_pb2")):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:
            return None
        return importlib.util.spec_from_file_location(
            fullname, spec.origin, loader=_MessageLoader(fullname, spec.origin)
        )


def _hook_messages() -> None:
    sys.meta_path.insert(0, _MessageFinder())


def _messages_are_old() -> bool:
    if any(isinstance(finder, _MessageFinder) for finder in sys.meta_path):
        return False
    import google.protobuf

    spec = importlib.util.find_spec("object_detection.protos.pipeline_pb2")
    if spec is None or spec.origin is None:
        return False
    # Newer generators hand the bytes over in one call and never name the argument.
    is_old = "serialized_pb=b" in pathlib.Path(spec.origin).read_text(encoding="utf-8")
    return is_old and int(google.protobuf.__version__.split(".")[0]) >= 4


# Packages that are imported at the top of a file and used in a corner nobody here visits.


def _stand_in(name: str, use: str, **contents: Any) -> types.ModuleType:
    """Registers a module that can be imported; using anything else of it says what to install."""
    module = types.ModuleType(name, f"Stands in for {name}, which is not installed.")
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    module.__path__ = []
    module.__dict__.update(contents)

    def refuse(attribute: str) -> Any:
        raise AttributeError(f"{name}.{attribute}: {name} is not installed, and {use} needs it.")

    module.__dict__["__getattr__"] = refuse
    sys.modules[name] = module
    return module


def _stand_in_for_lvis() -> None:
    class Absent:
        """A base class that TFOD derives from at import time."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise ImportError("The LVIS evaluator needs lvis: pip install --no-deps lvis")

    parts = {"lvis": "LVIS", "eval": "LVISEval", "results": "LVISResults"}
    modules = {part: _stand_in(f"lvis.{part}", "the LVIS evaluator", **{name: Absent}) for part, name in parts.items()}
    _stand_in("lvis", "the LVIS evaluator", **modules)


def _stand_in_for_tensorflow_io() -> None:
    _stand_in("tensorflow_io", "the colour loss of DeepMAC")


# Names that were renamed or removed.

_NUMPY_NAMES = {"float": float, "int": int}


def _name_numpy_types() -> None:
    import numpy as np

    for name, value in _NUMPY_NAMES.items():
        np.__dict__.setdefault(name, value)


def _numpy_types_are_gone() -> bool:
    import numpy as np

    return not _NUMPY_NAMES.keys() <= np.__dict__.keys()


def _fonts() -> list[type]:
    from PIL import ImageFont

    return [ImageFont.FreeTypeFont, ImageFont.ImageFont]


def _measure_text() -> None:
    def getsize(font: Any, text: str) -> tuple[int, int]:
        """Width and height of the text in pixels, from the origin it is drawn at."""
        _, _, right, bottom = font.getbbox(text)
        return math.ceil(right), math.ceil(bottom)

    for font in _fonts():
        if not hasattr(font, "getsize"):
            font.getsize = getsize  # type: ignore[attr-defined]


def _fonts_cannot_measure() -> bool:
    return not all(hasattr(font, "getsize") for font in _fonts())


def _name_estimator() -> None:
    import tensorflow.compat.v1 as tf1

    # TFOD's TF2 code reads the names of the modes and wraps the input of an Estimator's export; it never trains one.
    estimator: Any = types.ModuleType("tensorflow.compat.v1.estimator", "What TFOD's TF2 code reads of tf.estimator.")
    estimator.ModeKeys = type("ModeKeys", (), {"TRAIN": "train", "EVAL": "eval", "PREDICT": "infer"})
    estimator.export = types.SimpleNamespace(ServingInputReceiver=_ServingInputReceiver)
    tf1.estimator = estimator


@dataclasses.dataclass(frozen=True)
class _ServingInputReceiver:
    """The fields of `tf.estimator.export.ServingInputReceiver`."""

    features: Any
    receiver_tensors: Any
    receiver_tensors_alternatives: Any = None


def _estimator_is_gone() -> bool:
    import tensorflow.compat.v1 as tf1

    return not hasattr(tf1, "estimator")


_CONTROL_FLOW = ("case", "cond", "while_loop", "Assert")


def _name_control_flow() -> None:
    import tensorflow.compat.v1 as tf1
    from tensorflow.python.ops import control_flow_ops

    for name in _CONTROL_FLOW:
        if not hasattr(control_flow_ops, name):
            setattr(control_flow_ops, name, getattr(tf1, name))


def _control_flow_has_moved() -> bool:
    from tensorflow.python.ops import control_flow_ops

    return not all(hasattr(control_flow_ops, name) for name in _CONTROL_FLOW)


def _build_resnet_from_legacy_keras() -> None:
    from object_detection.models.keras_models import resnet_v1

    # TFOD builds on `ResNet`, the general builder, which the public `applications.resnet` of no Keras lists.
    from tf_keras.src.applications import resnet

    resnet_v1.resnet = resnet


def _resnet_is_of_keras_3() -> bool:
    from object_detection.models.keras_models import resnet_v1

    return not resnet_v1.resnet.__name__.startswith("tf_keras.")


PATCHES: Mapping[str, Patch] = types.MappingProxyType(
    {
        "protobuf": Patch(
            "builds the messages from the descriptors in their files",
            "protobuf 4.21, which refuses code generated before protoc 3.19",
            _hook_messages,
            _messages_are_old,
        ),
        "lvis": Patch(
            "lets the LVIS evaluator be imported, for what is beside it",
            "lvis 0.5.3, which installs opencv-python over opencv-python-headless and so is left out",
            _stand_in_for_lvis,
            lambda: not _is_found("lvis"),
        ),
        "tensorflow_io": Patch(
            "lets DeepMAC be imported, for what is beside it",
            "tensorflow 2.17, for which no tensorflow-io was released",
            _stand_in_for_tensorflow_io,
            lambda: not _is_found("tensorflow_io"),
        ),
        "numpy": Patch("names np.float and np.int", "numpy 1.24", _name_numpy_types, _numpy_types_are_gone),
        "pillow": Patch(
            "gives fonts `getsize`, by which boxes are labelled", "pillow 10", _measure_text, _fonts_cannot_measure
        ),
        "estimator": Patch(
            "gives tf.compat.v1 what is read of `estimator`", "tensorflow 2.16", _name_estimator, _estimator_is_gone
        ),
        "control_flow": Patch(
            "names what tf_slim 1.1.0 calls of `control_flow_ops`",
            "tensorflow 2.13",
            _name_control_flow,
            _control_flow_has_moved,
        ),
        "resnet": Patch(
            "builds ResNet-18 and -34 of legacy Keras layers, as all other networks",
            "keras 3.0",
            _build_resnet_from_legacy_keras,
            _resnet_is_of_keras_3,
        ),
    }
)

_applied: list[str] = []


def applied() -> tuple[str, ...]:
    """The names of the patches that have been made in this process, in order."""
    return tuple(_applied)


def install(*, without: Collection[str] = ()) -> None:
    """Makes `object_detection` importable. A second call changes nothing. Imports TensorFlow, with legacy Keras.

    Args:
      without: names of `PATCHES` to leave out, to see whether they are still needed.

    Raises:
      ImportError: if the TF Object Detection API or a package that it needs is not installed.
      RuntimeError: if TensorFlow has been imported with Keras 3 as `tf.keras`.
      ValueError: if `without` names no patch.
    """
    unknown = sorted(set(without) - PATCHES.keys())
    if unknown:
        raise ValueError(f"`without` must name patches of {sorted(PATCHES)}. Received: without={unknown}.")
    _check_installed(REQUIRED)
    _select_legacy_keras()
    for name in PATCHES:
        if name not in without:
            _apply(name)


def protos(name: str = "pipeline") -> types.ModuleType:
    """A module of TFOD's messages, without importing TensorFlow: half a second where `install` takes ten.

    Args:
      name: the file in `object_detection/protos`, without its ending: "pipeline", "string_int_label_map", ...

    Raises:
      ImportError: if the TF Object Detection API is not installed.
      ValueError: if it has no such file.
    """
    _check_installed(("object_detection",))
    _apply("protobuf")
    module = f"object_detection.protos.{name}_pb2"
    if importlib.util.find_spec(module) is None:
        raise ValueError(f'`name` must be a file of object_detection/protos, as "pipeline". Received: name={name!r}.')
    return importlib.import_module(module)


def _apply(name: str) -> None:
    if name not in _applied and PATCHES[name].is_needed():
        PATCHES[name].apply()
        _applied.append(name)


def _check_installed(names: Collection[str]) -> None:
    missing = [name for name in names if not _is_found(name)]
    if missing:
        raise ImportError(f"Detection needs {', '.join(missing)}, not installed here: {INSTALLATION}")


def _select_legacy_keras() -> None:
    """TensorFlow decides once, when it is first imported, which Keras `tf.keras` is; TFOD needs Keras 2."""
    tensorflow = sys.modules.get("tensorflow")
    # The Keras 2 namespace carries no version; its classes tell where they are from.
    if tensorflow is not None and not tensorflow.keras.Model.__module__.startswith("tf_keras."):
        raise RuntimeError(
            "TensorFlow was imported with Keras 3 as tf.keras, and the TF Object Detection API needs Keras 2: call "
            "tfllv.detection.compat.install() before the first `import tensorflow`, or set TF_USE_LEGACY_KERAS=1."
        )
    # Also when it was imported already: child processes inherit the choice.
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
