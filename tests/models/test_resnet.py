import keras
import numpy as np
import pytest

from tfllv.models import resnet

BLOCKS = (3, 4, 6, 3)


def torch_forward(state, image):
    """ResNet-50 v1.5 in NumPy by PyTorch's rules: explicit padding, floor sizes, [C, H, W]."""

    def conv(x, name, stride=1, pad=0):
        kernel = state[f"{name}.weight"]
        x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
        windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], (1, 2))[:, ::stride, ::stride]
        return np.tensordot(kernel, windows, ((1, 2, 3), (0, 3, 4)))

    def norm(x, name):
        weight, bias, mean, var = (
            state[f"{name}.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(var + 1e-5) * weight + bias

    def relu(x):
        return np.maximum(x, 0)

    x = relu(norm(conv(image, "conv1", 2, 3), "bn1"))
    maps = {"stem": x}
    x = np.pad(x, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    x = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))[:, ::2, ::2].max((3, 4))
    for stage, blocks in enumerate(BLOCKS, start=1):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = relu(norm(conv(x, f"{name}.conv1"), f"{name}.bn1"))
            y = relu(norm(conv(y, f"{name}.conv2", stride, 1), f"{name}.bn2"))
            y = norm(conv(y, f"{name}.conv3"), f"{name}.bn3")
            if block == 0:
                x = norm(conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
            x = relu(x + y)
        maps[f"c{stage + 1}"] = x
    return maps


def close(got, want):
    # Fifty layers of float32 sums in another order; each map is compared on its own scale.
    np.testing.assert_allclose(np.asarray(got), want, rtol=0, atol=1e-4 * np.abs(want).max())


@pytest.fixture(scope="module")
def backbone():
    return resnet.ResNet50(seed=0)


def test_parameters_are_those_of_torchvision(backbone):
    trainable = sum(int(np.prod(variable.shape)) for variable in backbone.trainable_variables)
    assert trainable == 23_508_032
    assert trainable + 2048 * 1000 + 1000 == 25_557_032
    assert backbone.count_params() - trainable == 53_120


def test_torch_names_cover_every_variable_with_the_shape_of_torchvision(backbone, torchvision_state):
    names, want = backbone.torch_names(), torchvision_state.torch_shapes()
    assert set(names) == set(want)
    assert {id(variable) for variable in names.values()} == {id(variable) for variable in backbone.weights}
    for name, variable in names.items():
        shape = tuple(variable.shape)
        assert (shape[3], shape[2], *shape[:2]) == want[name] if len(shape) == 4 else shape == want[name]


@pytest.mark.parametrize("size", [(33, 45), (64, 50)])
def test_features_equal_an_independent_v1_5_by_the_rules_of_pytorch(backbone, torchvision_state, rng, size):
    state = torchvision_state.random_state(rng)
    backbone.assign_torch(state | {"fc.weight": np.zeros((1000, 2048)), "bn1.num_batches_tracked": np.int64(7)})
    image = rng.uniform(size=(1, *size, 3)).astype(np.float32)
    want = torch_forward(state, image[0].transpose(2, 0, 1))
    got = backbone(image, training=False)
    assert list(got) == list(resnet.STAGES)
    for name in want:
        close(got[name][0], want[name].transpose(1, 2, 0))


@pytest.mark.parametrize("size", [(224, 224), (235, 317)])
def test_features_equal_those_of_torchvision(backbone, torchvision_state, goldens, size):
    state = torchvision_state.random_state(np.random.default_rng(torchvision_state.STATE_SEED))
    backbone.assign_torch(state)
    got = backbone(torchvision_state.picture(size), training=False)
    with np.load(goldens / "resnet50_features.npz") as golden:
        for name, features in got.items():
            key = f"{size[0]}x{size[1]}/{name}"
            assert features.shape == tuple(golden[f"{key}/shape"])
            np.testing.assert_allclose(torchvision_state.kept(np.asarray(features)), golden[key], rtol=0, atol=1e-4)


def test_a_state_dict_that_does_not_fit_changes_nothing_and_is_named(backbone, torchvision_state, rng):
    before = backbone.torch_names()["bn1.weight"].numpy()
    state = torchvision_state.random_state(rng)
    state["layer3.6.conv1.weight"] = state.pop("layer1.0.conv1.weight")
    state["layer4.2.bn3.bias"] = np.zeros(512, np.float32)
    with pytest.raises(ValueError, match="`state` must be") as caught:
        backbone.assign_torch(state)
    for words in (
        "missing: layer1.0.conv1.weight;",
        "unexpected: layer3.6.conv1.weight;",
        "another shape: layer4.2.bn3.bias.",
    ):
        assert words in str(caught.value)
    np.testing.assert_array_equal(backbone.torch_names()["bn1.weight"].numpy(), before)


@pytest.mark.parametrize("size", [(1, 1), (35, 67)])
def test_maps_have_the_stated_strides_and_channels(backbone, size):
    for name, features in backbone(np.zeros((1, *size, 3), np.float32)).items():
        stride = resnet.STAGES[name]
        assert features.shape == (1, -(-size[0] // stride), -(-size[1] // stride), resnet.CHANNELS[name])


def test_keras_imagenet_weights_come_in_by_name(monkeypatch, rng):
    source = keras.applications.ResNet50(include_top=False, weights=None)
    for layer in source.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights([rng.uniform(low, high, shape) for low, high in ((0.5, 1), (-1, 1), (-1, 1), (0.5, 2))])
        elif isinstance(layer, keras.layers.Conv2D):
            layer.bias.assign(rng.normal(size=layer.bias.shape))
    asked = {}

    def published(**options):
        asked.update(options)
        return source

    monkeypatch.setattr(keras.applications, "ResNet50", published)
    backbone = resnet.ResNet50(variant="v1", weights="imagenet", normalization="keras")
    assert asked == {"include_top": False, "weights": "imagenet"}

    image = rng.uniform(size=(1, 45, 39, 3)).astype(np.float32)
    names = ("conv1_relu", *(f"conv{stage}_block{blocks}_out" for stage, blocks in enumerate(BLOCKS, start=2)))
    probe = keras.Model(source.input, [source.get_layer(name).output for name in names])
    want = probe(keras.applications.resnet.preprocess_input(255 * image))
    for name, map_ in zip(resnet.STAGES, want, strict=True):
        close(backbone(image)[name], np.asarray(map_))


def test_offline_imagenet_weights_give_one_clear_line(monkeypatch):
    def offline(**options):
        raise Exception("URL fetch failure on https://...: None -- unreachable\nmore")

    monkeypatch.setattr(keras.applications, "ResNet50", offline)
    with pytest.raises(OSError, match="pass weights=None") as caught:
        resnet.ResNet50(variant="v1", weights="imagenet")
    assert "\n" not in str(caught.value)


def test_freeze_stops_the_first_stages_only(backbone):
    try:
        counts = []
        for stages in range(6):
            backbone.freeze(stages)
            counts.append(len(backbone.trainable_variables))
        # 3 tensors a convolution and its normalisation: 1 + 10, 13, 19 and 10 of them.
        assert counts == [159, 156, 126, 87, 30, 0]
        assert backbone.get_config()["frozen_stages"] == 5
        with pytest.raises(ValueError, match="`stages` must be an integer from 0 to 5"):
            backbone.freeze(6)
    finally:
        backbone.freeze(0)


@pytest.mark.parametrize("statistics", resnet.STATISTICS)
def test_batch_norm_uses_the_statistics_it_was_told_to(statistics, rng):
    layer = resnet.BatchNorm(statistics=statistics, epsilon=1e-5)
    x = rng.normal(3, 2, (4, 5, 6, 7)).astype(np.float32)
    layer.build(x.shape)
    batch = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    moving = x / np.sqrt(1 + 1e-5)
    by_training = {"auto": (moving, batch), "moving": (moving, moving), "batch": (batch, batch)}[statistics]
    for training, want in zip((False, True), by_training, strict=True):
        np.testing.assert_allclose(np.asarray(layer(x, training=training)), want, atol=2e-5)
    moved = np.abs(np.asarray(layer.moving_mean)).max() > 0
    assert moved == (statistics == "auto")
    assert type(layer).from_config(layer.get_config()).statistics == statistics


def test_frozen_batch_statistics_stay_batch_statistics(rng):
    layer = resnet.BatchNorm(statistics="batch", trainable=False)
    got = np.asarray(layer(rng.normal(3, 2, (2, 8, 8, 3)).astype(np.float32), training=True))
    np.testing.assert_allclose(got.mean((0, 1, 2)), 0, atol=1e-5)


# TensorFlow 2.20's tensors know NumPy's older array protocol only.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_saved_backbone_comes_back_the_same(tmp_path, rng):
    backbone = resnet.ResNet50(normalization="torchvision", frozen_stages=2, seed=1)
    backbone.save(tmp_path / "backbone.keras")
    again = keras.models.load_model(tmp_path / "backbone.keras")
    assert again.get_config() == backbone.get_config()
    assert len(again.trainable_variables) == len(backbone.trainable_variables)
    image = rng.uniform(size=(1, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(again(image)["c5"], backbone(image)["c5"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"variant": "v2"}, "`variant` must be one of v1.5, v1"),
        ({"normalization": "caffe"}, "`normalization` must be one of torchvision, keras"),
        ({"statistics": "frozen"}, "`statistics` must be one of auto, moving, batch"),
        ({"weights": "noisy"}, "`weights` must be one of imagenet"),
        ({"weights": "imagenet"}, "fits `variant='v1'` only"),
    ],
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        resnet.ResNet50(**options)


def test_keras_weights_are_refused_by_the_other_layout(backbone):
    with pytest.raises(ValueError, match="`target` must be built with `variant='v1'`"):
        resnet.copy_keras_weights(None, backbone)
