from __future__ import annotations

import keras
import numpy as np
import pytest

from tfllv.models import encoder_weights, resnet, resnet_unet


@pytest.fixture(scope="module")
def backbone():
    return resnet.ResNet50(seed=0)


@pytest.fixture(scope="module")
def applications():
    """Keras' own network with random weights, normalisation included."""
    rng = np.random.default_rng(3)
    source = keras.applications.ResNet50(include_top=False, weights=None)
    for layer in source.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.choice([0.5, 1.0], layer.gamma.shape) for _ in range(4)])
        elif isinstance(layer, keras.layers.Conv2D):
            # Few different values, so that the file is small.
            layer.set_weights([rng.choice([-0.03125, 0.03125], weight.shape) for weight in layer.weights])
    return source


def write_applications(path, source):
    """A file as Keras Applications publishes them: a group a layer, its weights by name; packed, to be small."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in source.layers]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.2.4"
        for layer in source.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, layer.weights, strict=True):
                group.create_dataset(name, data=weight.numpy(), compression="gzip", compression_opts=1)
    return path


def test_torchvision_weights_come_in_with_and_without_the_classifier(
    tmp_path, torch_writer, torchvision_state, backbone, rng
):
    state = torchvision_state.random_state(rng)
    extra = {"fc.weight": np.zeros((12, 2048), np.float32), "fc.bias": np.zeros(12, np.float32)}
    extra["bn1.num_batches_tracked"] = np.array([7], np.int64)
    wrapped = {f"encoder.{name}": array for name, array in state.items()} | {"head.weight": extra["fc.weight"]}
    paths = {
        name: torch_writer.write_state(tmp_path / f"{name}.pt", arrays)
        for name, arrays in {"bare": state, "classifier": state | extra, "wrapped": wrapped}.items()
    }
    for path in paths.values():
        backbone.get_layer("conv1").kernel.assign(np.zeros((7, 7, 3, 64)))
        assert encoder_weights.variant_of(path) == "v1.5"
        encoder_weights.load_encoder(backbone, path)
        for name, variable in backbone.torch_names().items():
            want = state[name].transpose(2, 3, 1, 0) if state[name].ndim == 4 else state[name]
            np.testing.assert_array_equal(variable.numpy(), want, err_msg=name)


def test_a_pickle_that_would_run_code_runs_none(tmp_path, torch_writer, backbone):
    target = tmp_path / "ran"
    program = torch_writer.name("os", "system") + torch_writer.tuple(torch_writer.text(f"touch {target}")) + b"R"
    path = torch_writer.write_zip(tmp_path / "phase1_final_encoder.pt", program, {})
    with pytest.raises(ValueError, match=r"phase1_final_encoder\.pt.*os\.system"):
        encoder_weights.load_encoder(backbone, path)
    assert not target.exists()


def other_depth(torchvision_state, blocks, basic=False):
    """The names of a ResNet of another depth, with tensors of one value: only names are looked at."""
    names = torchvision_state.torch_shapes(blocks)
    return {name: np.zeros(1, np.float32) for name in names if not (basic and "conv3" in name)}


@pytest.mark.parametrize(
    ("blocks", "basic", "found"),
    [
        ((3, 4, 23, 3), False, r"found ResNet-101 \(3, 4, 23, 3 bottleneck blocks\)"),
        ((3, 4, 6, 3), True, r"found ResNet-34 \(3, 4, 6, 3 basic blocks\)"),
        ((1, 1, 1, 1), False, r"found another network \(1, 1, 1, 1 bottleneck blocks\)"),
    ],
)
def test_weights_of_another_depth_are_one_line(
    tmp_path, torch_writer, torchvision_state, backbone, blocks, basic, found
):
    state = other_depth(torchvision_state, blocks, basic)
    path = torch_writer.write_state(tmp_path / "deep.pth", state)
    with pytest.raises(ValueError, match=rf"deep\.pth: expected a ResNet-50.*{found}") as caught:
        encoder_weights.load_encoder(backbone, path)
    assert "\n" not in str(caught.value)


def test_files_that_hold_no_resnet_are_named(tmp_path, torch_writer, backbone, rng):
    path = torch_writer.write_state(tmp_path / "net.pth", {"e_conv1.weight": np.zeros((3, 3), np.float32)})
    with pytest.raises(ValueError, match=r"net\.pth: expected the state dict of one ResNet-50; found no ResNet"):
        encoder_weights.load_encoder(backbone, path)
    with pytest.raises(FileNotFoundError, match=r"`weights` must be a file. Received: 'absent\.pt'"):
        encoder_weights.load_encoder(backbone, "absent.pt")


def test_weights_that_are_not_finite_change_nothing(tmp_path, torch_writer, torchvision_state, backbone, rng):
    before = backbone.get_weights()
    state = torchvision_state.random_state(rng)
    state["layer2.0.bn1.bias"][3] = np.nan
    path = torch_writer.write_state(tmp_path / "nan.pt", state)
    with pytest.raises(ValueError, match=r"nan\.pt must be the state dict.*not finite: layer2\.0\.bn1\.bias"):
        encoder_weights.load_encoder(backbone, path)
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_file_of_keras_applications_comes_in_by_name(tmp_path, applications, rng):
    path = write_applications(tmp_path / "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5", applications)
    assert path.stat().st_size < 13e6
    network = resnet_unet.ResNetUNet(num_classes=3, width=1, weights=str(path))
    assert network.get_config()["variant"] == "v1"
    image = rng.uniform(size=(1, 45, 39, 3)).astype(np.float32)
    want = applications(keras.applications.resnet.preprocess_input(255 * image), training=False)
    got = network.backbone(image, training=False)["c5"]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * np.abs(want).max())


def test_imagenet_is_asked_of_keras_applications(monkeypatch, applications):
    asked = {}

    def published(**options):
        asked.update(options)
        return applications

    monkeypatch.setattr(keras.applications, "ResNet50", published)
    backbone = resnet.ResNet50(variant="v1", normalization="keras")
    encoder_weights.load_encoder(backbone, "imagenet")
    assert asked == {"include_top": False, "weights": "imagenet"}
    kernel = applications.get_layer("conv1_conv").kernel.numpy()
    np.testing.assert_array_equal(backbone.get_layer("conv1").kernel.numpy(), kernel[:, :, ::-1])


def test_damaged_keras_files_are_one_line(tmp_path, backbone):
    for name in ("a.h5", "a.weights.h5"):
        (tmp_path / name).write_bytes(b"no weights")
        target = backbone
        with pytest.raises(ValueError, match=rf"{name}: expected .*; found others") as caught:
            encoder_weights.load_encoder(target, tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("variant", resnet.VARIANTS)
def test_folded_normalisation_gives_the_same_features(torchvision_state, rng, variant):
    network = resnet.ResNet50(variant=variant, normalization="torchvision")
    network.assign_torch(torchvision_state.random_state(rng))
    folded = encoder_weights.make_folded(network)
    assert not any("norm" in type(layer).__name__.lower() for layer in folded.layers)
    image = rng.uniform(size=(2, 45, 38, 3)).astype(np.float32)
    for name, expected in network(image).items():
        np.testing.assert_allclose(folded(image)[name], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_statistics_of_the_batch_cannot_be_folded():
    with pytest.raises(ValueError, match="must normalise by moving statistics to be folded"):
        encoder_weights.make_folded(resnet.ResNet50(statistics="batch"))


def test_an_exported_encoder_comes_back(tmp_path, backbone):
    encoder_weights.make_plain(backbone).save_weights(tmp_path / "encoder.weights.h5")
    network = resnet_unet.ResNetUNet(num_classes=3, width=1, seed=9, weights=str(tmp_path / "encoder.weights.h5"))
    for old, new in zip(backbone.get_weights(), network.backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
