"""TFOD imports and runs with the patches, and every one of them is still necessary.

TFOD and TensorFlow under legacy Keras warn a lot and cannot be unloaded, so they run in processes of their own.
"""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

from tfllv.detection import compat

needs_tfod = pytest.mark.skipif(
    not compat._is_found("object_detection"), reason="the TF Object Detection API is not installed"
)

# For each patch, a use of TFOD that fails without it, and how.
PROBES = {
    "protobuf": (
        "from object_detection.protos import pipeline_pb2; pipeline_pb2.TrainEvalPipelineConfig()",
        "Descriptors cannot be created directly",
    ),
    "lvis": ("from object_detection import eval_util", "No module named 'lvis'"),
    "tensorflow_io": ("from object_detection.builders import model_builder", "No module named 'tensorflow_io'"),
    "numpy": (
        "import numpy as np; from object_detection.utils import metrics\n"
        "p, r = metrics.compute_precision_recall(np.array([.9, .8]), np.array([1., 0.]), 1)\n"
        "assert p.tolist() == [1, .5] and r.tolist() == [1, 1]",
        "module 'numpy' has no attribute 'float'",
    ),
    "pillow": (
        "import numpy as np; from object_detection.utils import visualization_utils as v\n"
        "image = np.zeros((64, 64, 3), np.uint8)\n"
        "v.draw_bounding_box_on_image_array(image, .4, .1, .9, .9, color='red', display_str_list=['cat'])\n"
        "assert image[..., 0].any()",
        "has no attribute 'getsize'",
    ),
    "estimator": ("from object_detection import inputs", "cannot import name 'estimator'"),
    "control_flow": (
        "import tensorflow as tf; from object_detection.data_decoders import tf_example_decoder\n"
        "data = tf.io.encode_png(tf.fill([3, 4, 3], tf.constant(7, tf.uint8))).numpy()\n"
        "value = lambda b: tf.train.Feature(bytes_list=tf.train.BytesList(value=[b]))\n"
        "example = tf.train.Example(features=tf.train.Features(feature={'image/encoded': value(data)}))\n"
        "found = tf_example_decoder.TfExampleDecoder().decode(tf.constant(example.SerializeToString()))\n"
        "assert found['image'].shape == (3, 4, 3) and (found['image'].numpy() == 7).all()",
        "control_flow_ops' has no attribute 'case'",
    ),
    "resnet": (
        "import tensorflow as tf; from object_detection.models.keras_models import resnet_v1\n"
        "net = resnet_v1.resnet_v1_18(weights=None, include_top=False)\n"
        "assert isinstance(net, tf.keras.Model), type(net)",
        "module 'keras.applications.resnet' has no attribute 'ResNet'",
    ),
}


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)


def test_each_patch_says_what_it_does_and_since_when_and_has_a_probe():
    assert PROBES.keys() == compat.PATCHES.keys()
    for patch in compat.PATCHES.values():
        assert patch.what and patch.since


@needs_tfod
def test_every_probe_passes_with_all_patches_each_of_which_was_needed():
    code = "from tfllv.detection import compat; compat.install(); once = compat.applied()\n"
    code += "import sys; finders = list(sys.meta_path)\n"
    code += "compat.install(); assert compat.applied() == once and sys.meta_path == finders\n"
    code += f"assert once == {tuple(compat.PATCHES)}, once\n"
    code += "assert not [name for name, patch in compat.PATCHES.items() if patch.is_needed()]\n"
    code += "import keras, tensorflow as tf; assert keras.__version__[0] == '3'\n"
    code += "assert not issubclass(tf.keras.Model, keras.Model)\n"
    done = run(code + "\n".join(probe for probe, _ in PROBES.values()))
    assert done.returncode == 0, done.stderr[-3000:]


@needs_tfod
@pytest.mark.slow
@pytest.mark.parametrize("name", PROBES)
def test_its_probe_fails_without_that_one_patch(name):
    probe, message = PROBES[name]
    done = run(f"from tfllv.detection import compat; compat.install(without=[{name!r}])\n{probe}")
    assert done.returncode != 0, f"PATCHES[{name!r}] is no longer necessary: remove it"
    assert message in done.stderr, done.stderr[-3000:]


@needs_tfod
@pytest.mark.parametrize("implementation", ["upb", "python"])
def test_a_pipeline_is_parsed_without_tensorflow(implementation):
    code = f"""
import os, sys
os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = {implementation!r}
from tfllv.detection import compat
config = compat.protos().TrainEvalPipelineConfig()
from google.protobuf import text_format
text_format.Parse("model {{ ssd {{ num_classes: 12 }} }} train_config {{ batch_size: 32 }}", config)
assert config.model.WhichOneof("model") == "ssd" and config.model.ssd.num_classes == 12
assert config.train_config.batch_size == 32 and config.train_config.num_steps == 0
labels = text_format.Parse('item {{ id: 3 name: "Boat" }}', compat.protos("string_int_label_map").StringIntLabelMap())
assert [(item.id, item.name) for item in labels.item] == [(3, "Boat")]
assert "tensorflow" not in sys.modules and "numpy" not in sys.modules
from google.protobuf.internal import api_implementation
print(api_implementation.Type())
"""
    done = run(code)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == [implementation]


@needs_tfod
def test_messages_of_an_unknown_name_are_refused():
    done = run("from tfllv.detection import compat; compat.protos('pipelines')")
    assert "ValueError: `name` must be a file of object_detection/protos" in done.stderr


def test_a_missing_package_is_named_with_the_commands_that_install_it(monkeypatch):
    monkeypatch.setattr(compat, "_is_found", lambda name: name not in ("object_detection", "tf_slim"))
    for call in (compat.install, compat.protos):
        with pytest.raises(ImportError, match=r"object_detection.*pip install .*&& pip install --no-deps") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_tensorflow_with_keras_3_is_refused_in_one_line(monkeypatch):
    tensorflow = types.ModuleType("tensorflow")
    tensorflow.keras = types.SimpleNamespace(Model=type("Model", (), {"__module__": "keras.src.models.model"}))
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    monkeypatch.setattr(compat, "_is_found", lambda name: True)
    with pytest.raises(RuntimeError, match=r"Keras 3 as tf\.keras.*before the first `import tensorflow`") as caught:
        compat.install()
    assert "\n" not in str(caught.value)


def test_leaving_out_an_unknown_patch_is_refused():
    with pytest.raises(ValueError, match="`without` must name patches of"):
        compat.install(without=["pilow"])
