from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tfllv import cli


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Three classes of flat colours with a little noise, ten pictures each: any encoder tells them apart."""
    folder = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    for index, name in enumerate(("blue", "green", "red")):
        (folder / name).mkdir()
        for number in range(10):
            pixels = rng.integers(0, 30, (32, 32, 3))
            pixels[..., 2 - index] += 150
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


def test_a_probe_of_two_encoders_prints_and_writes_the_table(colours, tmp_path, capsys):
    words = ["evaluate", "probe", str(colours), "--protocol", "five_fold", "--size", "32"]
    words += ["--encoder", "a=none", "--encoder", "b=none", "--cache", str(tmp_path / "cache")]
    assert cli.main([*words, "-o", str(tmp_path / "out.json")]) == 0
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["encoders"]["a"]["top1"]["value"] >= 0.9
    # The same weights: the same answers, and nothing between them.
    assert report["encoders"]["a"] == report["encoders"]["b"]
    assert report["paired"][0]["difference"] == 0
    assert report["paired"][0]["p"] == 1
    printed = capsys.readouterr().out
    assert "linear probe, five_fold protocol, 30 images at 32 px" in printed
    assert "b against a: +0.00 points" in printed
    # Both read the same features from the cache the second time.
    (kept,) = (tmp_path / "cache").glob("*.npy")
    assert np.load(kept).shape == (30, 2048)


def test_colours_alone_tell_classes_of_colours(colours, tmp_path, capsys):
    words = ["evaluate", "probe", str(colours), "--protocol", "five_fold", "--size", "32", "--encoder", "c=colours"]
    assert cli.main([*words, "--cache", str(tmp_path), "-o", str(tmp_path / "out.json")]) == 0
    assert json.loads((tmp_path / "out.json").read_text())["encoders"]["c"]["top1"]["value"] == 1
    (kept,) = tmp_path.glob("*.npy")
    from tfllv.evaluate import labelled

    pixels = np.asarray(Image.open(labelled.read(colours).paths[0])) / 255
    expected = np.array([*pixels.mean((0, 1)), *pixels.std((0, 1))])
    expected = np.concatenate([expected, expected**2, np.log(expected + 1e-3)])
    np.testing.assert_allclose(np.load(kept)[0], expected, atol=1e-4)


def test_the_cache_is_used_and_a_damaged_file_is_made_again(colours, tmp_path):
    from tfllv.evaluate import encoder_features, labelled

    calls = []

    class Encoder:
        def get_config(self):
            return {}

        def get_weights(self):
            return [np.ones(3)]

        def __call__(self, batch, training):
            calls.append(1)
            return {"c5": batch[:, :2, :2]}

    paths = labelled.read(colours).paths
    first = encoder_features.extract(Encoder(), paths, size=32, cache=tmp_path)
    calls.clear()
    assert np.array_equal(first, encoder_features.extract(Encoder(), paths, size=32, cache=tmp_path))
    assert not calls
    (kept,) = tmp_path.glob("*.npy")
    kept.write_bytes(kept.read_bytes()[:-7])
    assert np.array_equal(first, encoder_features.extract(Encoder(), paths, size=32, cache=tmp_path))
    assert calls


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--encoder", "random"], "`--encoder` must be NAME=WEIGHTS. Received: 'random'."),
        (["--encoder", "a=none", "--encoder", "a=imagenet"], "Received: 'a' twice."),
        (["--protocol", "official"], "official needs pictures of all three splits"),
        (["--encoder", "a=colours", "--mode", "fine_tune"], "`--encoder` must be a network with --mode fine_tune."),
        (["--size", "8"], "`--size` must be at least 32. Received: 8."),
        (["--encoder", "a=gone.pt", "--protocol", "five_fold"], "'gone.pt', which does not exist"),
    ],
)
def test_wrong_use_is_one_line(colours, capsys, words, message):
    assert cli.main(["evaluate", "probe", str(colours), *words]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


@pytest.mark.slow
def test_fine_tuning_learns_the_colours(colours, tmp_path):
    words = ["evaluate", "probe", str(colours), "--protocol", "five_fold", "--mode", "fine_tune", "--size", "32"]
    assert cli.main([*words, "--epochs", "8", "--lr", "1e-3", "-o", str(tmp_path / "out.json")]) == 0
    assert json.loads((tmp_path / "out.json").read_text())["encoders"]["random"]["top1"]["value"] >= 0.8
