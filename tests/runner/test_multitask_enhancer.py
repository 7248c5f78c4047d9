from __future__ import annotations

import numpy as np
import pytest

from tfllv import enhancers, models
from tfllv.models import encoder_weights
from tfllv.runner import image_network


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The weights file of each shape of network, and the options it was built with."""
    folder = tmp_path_factory.mktemp("weights")
    found = []
    for index, options in enumerate(
        (
            {"num_classes": 7, "width": 2, "shared_blocks": 4},
            {"num_classes": 3, "width": 1, "shared_blocks": 0},
            {"num_classes": 3, "width": 2, "tasks": "enhancement"},
            {"num_classes": 5, "width": 1, "tasks": "segmentation"},
        )
    ):
        network = models.build("resnet_unet", **options)
        path = folder / f"{index}.weights.h5"
        network.save_weights(path)
        found.append((str(path), options, network))
    return found


def test_options_are_read_from_the_weights_file(weights):
    for path, options, _ in weights:
        assert encoder_weights.network_options(path) == options


def test_enhancer_gives_the_networks_picture_of_mirrored_surroundings(weights, rng):
    path, _, network = weights[0]
    enhancer = enhancers.get("multitask", weights=path)
    picture = rng.uniform(0, 0.2, (37, 50, 3)).astype(np.float32)
    around = np.pad(picture, ((32, 32), (32, 32), (0, 0)), mode="symmetric")
    expected = np.clip(network(around[None])["image"][0, 32:-32, 32:-32], 0, 1)
    np.testing.assert_allclose(enhancer(picture), expected, rtol=0, atol=1e-5)
    assert enhancer((picture * 255).astype(np.uint8)).dtype == np.uint8


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (33, 64)])
def test_surroundings_of_any_picture_are_its_mirror_images(rng, size):
    pictures = rng.uniform(0, 1, (2, *size, 3)).astype(np.float32)
    expected = np.pad(pictures, ((0, 0), (32, 32), (32, 32), (0, 0)), mode="symmetric")
    np.testing.assert_array_equal(image_network.mirror_around(pictures, 32), expected)
    np.testing.assert_array_equal(image_network.mirror_around(pictures, 0), pictures)


def test_a_flat_picture_has_no_frame(weights):
    enhancer = enhancers.get("multitask", weights=weights[0][0])
    result = enhancer(np.full((40, 56, 3), 0.2, np.float32))
    network = weights[0][2](np.full((1, 40, 56, 3), 0.2, np.float32))["image"][0]
    inner = (slice(8, -8), slice(8, -8))

    def frame(picture):
        """How far the border is from the inside, in deviations of the inside."""
        picture = np.asarray(picture)
        border = np.concatenate([picture[:1].ravel(), picture[-1:].ravel()])
        return abs(border.mean() - picture[inner].mean()) / (picture[inner].std() + 1e-4)

    assert frame(result) < 0.5 * frame(network)


def test_files_of_another_network_are_one_line(weights, tmp_path):
    models.build("zero_dce_pp").save_weights(tmp_path / "dce.weights.h5")
    (tmp_path / "text.weights.h5").write_text("no weights")
    for name, words in (("dce", "found another network's"), ("text", "found no HDF5 file")):
        with pytest.raises(ValueError, match=rf"{name}\.weights\.h5: expected a weights file of .*{words}"):
            enhancers.get("multitask", weights=str(tmp_path / f"{name}.weights.h5"))
    with pytest.raises(ValueError, match=r"`weights` must be given: none are shipped for 'multitask'\. Train them"):
        enhancers.get("multitask")


def test_a_network_without_a_picture_is_refused(weights):
    with pytest.raises(ValueError, match="`weights` must be of a network that gives a picture"):
        enhancers.get("multitask", weights=weights[3][0])


def test_methods_that_need_weights_are_known():
    assert enhancers.needs_weights("multitask") and enhancers.needs_weights("mirnet")
    carried = {name: enhancers.shipped_weights(name) for name in enhancers.METHODS}
    assert {name: path.name for name, path in carried.items() if path} == {
        "sgz": "sgz.weights.h5",
        "mirnet_small": "mirnet_small.weights.h5",
        "diffusion": "diffusion_unet_small.weights.h5",
    }
    assert not enhancers.needs_weights("sgz") and not enhancers.needs_weights("clahe")
