import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfllv import contracts, models
from tfllv.losses import semantic, zero_reference
from tfllv.models import fpn, torch_import
from tfllv.objectives.zero_reference import ZeroReference


class Stretch(keras.Model):
    """The smallest curve network: one 1x1 convolution predicts the curve."""

    def __init__(self):
        super().__init__()
        self.conv = keras.layers.Conv2D(3, 1, activation="tanh", kernel_initializer="zeros")

    def call(self, low, training=None):
        curve = self.conv(low) - 0.3
        return {"image": low + curve * (low * low - low), "curve": curve}


class Mean(keras.Model):
    """A segmentation network without weights: the channels are the classes."""

    def call(self, image, training=None):
        return {"logits": 10 * image}


@pytest.fixture(scope="module")
def random_segmenter():
    return fpn.FPN(reference=True)


@pytest.fixture
def batch(rng):
    return {"low": rng.uniform(0, 0.4, size=(2, 64, 64, 3)).astype(np.float32)}


def loss_and_gradients(objective, model, batch):
    with tf.GradientTape() as tape:
        terms, _ = objective(model, batch)
        total = sum(terms.values())
    return terms, tape.gradient(total, [variable.value for variable in model.trainable_variables])


def test_loss_and_gradient_equal_the_reference_with_the_published_weights(shared):
    values = json.loads((shared / "goldens" / "sgz_losses.json").read_text())
    with np.load(shared / "goldens" / "sgz_losses.npz") as arrays:
        low = np.moveaxis(arrays["x"], 1, -1)
    model = torch_import.import_weights("sgz", shared / "weights" / "sgz_Epoch99.pth", models.build("sgz"))
    terms, gradients = loss_and_gradients(ZeroReference(), model, {"low": low})
    assert len(gradients) == 28
    np.testing.assert_allclose(float(sum(terms.values())), values["weighted_no_seg"], rtol=1e-5)
    np.testing.assert_allclose(float(tf.linalg.global_norm(gradients)), values["grad_norm"], rtol=1e-5)


def test_terms_are_the_weighted_losses(batch):
    model = Stretch()
    terms, outputs = ZeroReference(semantic="sane", segmenter=Mean())(model, batch)
    low, image = batch["low"], outputs["image"]
    want = {
        "tv": 1600 * zero_reference.total_variation(outputs["curve"]),
        "spa": zero_reference.spatial_consistency(low, image),
        "col": 5 * zero_reference.color_constancy(image),
        "exp": 10 * zero_reference.exposure_control(image),
        "seg": 0.1 * semantic.focal_self_label(10 * image),
    }
    assert list(terms) == list(want)
    for name, value in want.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-6)
    np.testing.assert_array_equal(image, model(low)["image"])


def test_options_reach_their_losses(batch):
    model = Stretch()
    terms, outputs = ZeroReference(exp_level=0.4, patch_size=8, neighbours=4, weights={"exp": 3})(model, batch)
    low, image = batch["low"], outputs["image"]
    np.testing.assert_allclose(terms["exp"], 3 * zero_reference.exposure_control(image, level=0.4), rtol=1e-6)
    spa = zero_reference.spatial_consistency(low, image, patch_size=8, neighbours=4)
    np.testing.assert_allclose(terms["spa"], spa, rtol=1e-6)


def test_a_term_of_weight_zero_and_an_unwanted_semantic_term_are_left_out(batch):
    terms, _ = ZeroReference(weights={"col": 0})(Stretch(), batch)
    assert set(terms) == {"tv", "spa", "exp"}
    assert ZeroReference(semantic="faithful", weights={"seg": 0}).segmenter is None


def test_the_zero_dce_preset_has_four_neighbours_and_a_light_smoothness(batch):
    model = Stretch()
    model.conv.build((None, None, None, 3))
    model.conv.kernel.assign(np.eye(3)[None, None])
    terms, outputs = ZeroReference.preset("zero_dce")(model, batch)
    spa = zero_reference.spatial_consistency(batch["low"], outputs["image"], neighbours=4)
    np.testing.assert_allclose(terms["spa"], spa, rtol=1e-6)
    np.testing.assert_allclose(terms["tv"], 200 * zero_reference.total_variation(outputs["curve"]), rtol=1e-6)
    changed = ZeroReference.preset("zero_dce", weights={"col": 1}, exp_level=0.5)
    assert changed.weights == {"tv": 200, "spa": 1, "col": 1, "exp": 10, "seg": 0}
    assert (changed.neighbours, changed.exp_level) == (4, 0.5)
    assert ZeroReference.preset("sgz").weights == ZeroReference().weights


@pytest.mark.parametrize("value", [0.0, 0.2, 1.0])
def test_every_gradient_is_finite_on_a_flat_grey_batch(value, random_segmenter):
    batch = {"low": np.full((2, 64, 64, 3), value, np.float32)}
    objective = ZeroReference(semantic="faithful", segmenter=random_segmenter)
    terms, gradients = loss_and_gradients(objective, Stretch(), batch)
    assert len(terms) == 5
    assert np.isfinite(float(sum(terms.values())))
    for gradient in gradients:
        assert np.isfinite(gradient.numpy()).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 70)])
def test_tiny_pictures_have_a_loss(size, random_segmenter, rng):
    batch = {"low": rng.uniform(size=(1, *size, 3)).astype(np.float32)}
    terms, gradients = loss_and_gradients(ZeroReference(semantic="sane", segmenter=random_segmenter), Stretch(), batch)
    assert np.isfinite(float(sum(terms.values())))
    assert all(np.isfinite(gradient.numpy()).all() for gradient in gradients)


def test_the_semantic_term_moves_the_enhancer_and_not_the_segmenter(random_segmenter, batch):
    model, objective = Stretch(), ZeroReference(semantic="faithful", segmenter=random_segmenter)
    before = [np.asarray(variable) for variable in random_segmenter.weights]
    with tf.GradientTape() as tape:
        terms, _ = objective(model, batch)
    gradients = tape.gradient(terms["seg"], [variable.value for variable in model.trainable_variables])
    assert all(np.abs(gradient.numpy()).max() > 0 for gradient in gradients)
    assert random_segmenter.trainable_variables == []
    for variable, old in zip(random_segmenter.weights, before, strict=True):
        np.testing.assert_array_equal(variable, old)


@pytest.mark.parametrize(("mode", "reference"), [("faithful", True), ("sane", False)])
def test_each_mode_builds_its_segmentation_network(mode, reference):
    segmenter = ZeroReference(semantic=mode, segmenter="random", num_classes=5, seed=3).segmenter
    config = segmenter.get_config()
    assert (config["reference"], config["num_classes"], config["seed"]) == (reference, 5, 3)
    assert segmenter.trainable_variables == []


def test_imagenet_weights_are_asked_for_by_default(monkeypatch):
    def offline(**options):
        raise Exception("unreachable")

    monkeypatch.setattr(keras.applications, "ResNet50", offline)
    with pytest.raises(OSError, match="needs the ResNet-50 file of Keras Applications"):
        ZeroReference(semantic="faithful")


def test_a_torchvision_file_fills_the_backbone(monkeypatch, rng):
    state = {}

    def read(path):
        assert path == "resnet50.pth"
        for name, variable in fpn.resnet.ResNet50().torch_names().items():
            shape = tuple(variable.shape)
            state[name] = rng.uniform(size=(shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape)
        return state

    monkeypatch.setattr("tfllv.models.torch_file.read_state_dict", read)
    segmenter = ZeroReference(semantic="faithful", segmenter="resnet50.pth").segmenter
    kernel = segmenter.backbone.get_layer("conv1").kernel.numpy()
    np.testing.assert_array_equal(kernel, state["conv1.weight"].transpose(2, 3, 1, 0).astype(np.float32))


# TensorFlow 2.20's tensors know NumPy's older array protocol only.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_weights_file_fills_the_whole_segmentation_network(tmp_path):
    trained = fpn.FPN(seed=9)
    trained.save_weights(tmp_path / "seg.weights.h5")
    loaded = ZeroReference(semantic="sane", segmenter=str(tmp_path / "seg.weights.h5")).segmenter
    for one, other in zip(trained.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_objective_runs_in_a_graph(batch):
    model, objective = Stretch(), ZeroReference(semantic="sane", segmenter=Mean())
    eager, _ = objective(model, batch)
    graph = tf.function(lambda low: objective(model, {"low": low})[0])(batch["low"])
    for name, value in eager.items():
        np.testing.assert_allclose(graph[name], value, rtol=1e-5)


def test_half_precision_outputs_give_float32_terms(batch):
    def model(low, training):
        return {"image": tf.cast(low, tf.bfloat16), "curve": tf.cast(low, tf.bfloat16)}

    terms, _ = ZeroReference(semantic="sane", segmenter=Mean())(model, batch)
    assert {term.dtype for term in terms.values()} == {tf.float32}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": {"spat": 1}}, "`weights` must name loss terms. Received: 'spat'; did you mean 'spa'"),
        ({"weights": {"tv": -1}}, "`weights` must be finite and >= 0"),
        ({"weights": dict.fromkeys(("tv", "spa", "col", "exp", "seg"), 0)}, "at least one term above 0"),
        ({"exp_level": 2}, "`exp_level` must be in"),
        ({"patch_size": 0}, "`patch_size` must be >= 1"),
        ({"neighbours": 5}, "`neighbours` must be 4 or 8"),
        ({"semantic": "on"}, "`semantic` must be one of off, faithful, sane"),
        ({"semantic": "sane", "segmenter": "voc"}, "`segmenter` must be 'imagenet'"),
        ({"semantic": "sane", "segmenter": "random", "num_classes": 0}, "`num_classes` must be >= 1"),
    ],
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        ZeroReference(**options)


def test_wrong_presets_batches_and_networks_are_named(batch):
    with pytest.raises(ValueError, match="did you mean 'zero_dce'"):
        ZeroReference.preset("zero_dc")
    with pytest.raises(ValueError, match=r"`batch` must have the key 'low'\. Received: high"):
        ZeroReference()(Stretch(), {"high": batch["low"]})
    with pytest.raises(ValueError, match="`outputs` must have the key 'curve'"):
        ZeroReference()(lambda low, training: {contracts.IMAGE: low}, batch)
