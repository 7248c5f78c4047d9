"""`tfllv segment` and `tfllv evaluate segmentation`, on one small network with random weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tfllv import cli, config, models
from tfllv.runner import segmenter


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run's folder."""
    folder = tmp_path_factory.mktemp("run")
    settings = config.EXPERIMENTS["multitask"](
        experiment="multitask", num_classes=3, width=2, image_size=32, image_fit="resize", encoder="none"
    )
    (folder / "config.yaml").write_text(settings.to_yaml())
    network = models.build("resnet_unet", num_classes=3, width=2, weights="none")
    network.save_weights(folder / "final.weights.h5")
    return folder


@pytest.fixture
def scenes(tmp_path):
    """Two pictures of different sizes, with maps whose one half is void."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for name, (height, width) in {"a": (40, 60), "b": (33, 21)}.items():
        Image.fromarray(rng.integers(0, 60, (height, width, 3), np.uint8)).save(tmp_path / f"images/{name}.png")
        mask = rng.integers(0, 3, (height, width), np.uint8)
        mask[: height // 2] = 11
        Image.fromarray(mask).save(tmp_path / f"masks/{name}.png")
    return tmp_path


def test_overlays_class_maps_and_a_legend_are_written(run, scenes, capsys):
    (scenes / "images/bad.png").write_bytes(b"no picture")
    (scenes / "names.txt").write_text("road\nsky\ntree\n")
    words = ["segment", str(scenes / "images"), "-o", str(scenes / "out"), "--model", str(run)]
    assert cli.main([*words, "--classes", str(scenes / "names.txt")]) == 1
    assert "bad.png" in capsys.readouterr().err
    names = {path.name for path in (scenes / "out").iterdir()}
    expected = {"a.png_overlay.png", "a.png_classes.png", "b.png_overlay.png", "b.png_classes.png"}
    assert names == expected | {"legend.png", "legend.json"}
    with Image.open(scenes / "out/a.png_classes.png") as image:
        assert image.mode == "P"
        labels = np.asarray(image)
        shown = np.asarray(image.convert("RGB"))
    assert labels.shape == (40, 60)
    assert set(np.unique(labels)) <= {0, 1, 2}
    legend = json.loads((scenes / "out/legend.json").read_text())
    assert [row["name"] for row in legend] == ["road", "sky", "tree"]
    assert sum(row["share"] for row in legend) == pytest.approx(1)
    # The palette shows the colours that the legend names.
    assert shown[0, 0].tolist() == legend[labels[0, 0]]["rgb"]
    # A second call replaces nothing unless told to.
    assert cli.main(words) == 1
    assert "--overwrite replaces it" in capsys.readouterr().err


def test_classes_are_those_of_the_network_at_the_pictures_size(run):
    model = segmenter.Segmenter(run)
    picture = np.random.default_rng(1).integers(0, 255, (32, 32, 3), np.uint8)
    network = models.build("resnet_unet", num_classes=3, width=2, weights="none")
    network.load_weights(run / "final.weights.h5")
    expected = np.argmax(network(picture[None] / np.float32(255))["logits"][0], -1)
    np.testing.assert_array_equal(model(picture), expected)


def test_enlarging_keeps_a_constant_map_and_needs_no_more_than_one_class_at_a_time():
    logits = np.zeros((2, 3, 4), np.float32)
    logits[..., 2] = 5
    assert (segmenter.enlarge_classes(logits, 37, 11) == 2).all()
    logits[:, 2, 3] = 9
    assert segmenter.enlarge_classes(logits, 20, 30)[0].tolist() == [2] * 20 + [3] * 10


def test_the_evaluation_prints_and_writes_json_and_a_page(run, scenes, capsys):
    words = ["evaluate", "segmentation", str(scenes / "images"), str(scenes / "masks"), "--model", str(run)]
    assert cli.main([*words, "--void", "11", "--darken", "photographic", "-o", str(scenes / "out.json")]) == 0
    report = json.loads((scenes / "out.json").read_text())
    assert report["images"] == 2
    assert np.sum(report["confusion"]) == 20 * 60 + 17 * 21
    assert 0 <= report["miou"] <= 1
    assert "mIoU" in capsys.readouterr().out
    assert "<img" in (scenes / "out.html").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("size", "expected a map of its picture's size, 60x40; found 60x39."),
        ("id", "expected class ids 0 to 2; found 9."),
        ("missing", "`masks` must have a map for each picture."),
    ],
)
def test_a_wrong_map_is_named_in_one_line(run, scenes, capsys, change, message):
    path = scenes / "masks/a.png"
    if change == "size":
        Image.fromarray(np.zeros((39, 60), np.uint8)).save(path)
    elif change == "id":
        Image.fromarray(np.full((40, 60), 9, np.uint8)).save(path)
    else:
        path.unlink()
    words = ["evaluate", "segmentation", str(scenes / "images"), str(scenes / "masks"), "--model", str(run)]
    assert cli.main([*words, "--void", "11"]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "a.png" in errors
    assert errors.count("\n") == 1


def test_a_folder_that_is_no_run_and_a_run_without_classes_are_refused(run, scenes, tmp_path, capsys):
    words = ["segment", str(scenes / "images"), "-o", str(tmp_path / "o"), "--model"]
    assert cli.main([*words, str(tmp_path / "no")]) == 2
    assert "without config.yaml" in capsys.readouterr().err
    other = tmp_path / "other"
    other.mkdir()
    text = (run / "config.yaml").read_text().replace("tasks: both", "tasks: enhancement")
    (other / "config.yaml").write_text(text)
    (other / "final.weights.h5").write_bytes(b"")
    assert cli.main([*words, str(other)]) == 2
    assert "network with classes" in capsys.readouterr().err
