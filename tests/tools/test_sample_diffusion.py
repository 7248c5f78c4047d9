from __future__ import annotations

import importlib
import json
import pathlib
import sys

import cv2
import numpy as np
import pytest

from tfllv import cli, models

TOOLS = pathlib.Path(__file__).parent.parent.parent / "tools"


@pytest.fixture(scope="module")
def tool():
    sys.path.insert(0, str(TOOLS))
    try:
        return importlib.import_module("sample_diffusion")
    finally:
        sys.path.remove(str(TOOLS))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Fresh weights of the small network: what it makes does not matter here."""
    path = tmp_path_factory.mktemp("weights") / "a.weights.h5"
    models.build("diffusion_unet_small").save_weights(path)
    return path


@pytest.fixture
def folders(tmp_path, rng):
    """Three dark and bright pictures of two sizes."""
    for index in range(3):
        high = rng.integers(60, 250, (20, 24 + 6 * (index == 2), 3)).astype(np.uint8)
        for kind, pixels in (("dark", high // 8), ("bright", high)):
            (tmp_path / kind).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / kind / f"{index}.png"), pixels)
    return tmp_path


def words(folders, weights, *more):
    given = ["--conditional_image_dir", folders / "dark", "--output_image_dir", folders / "out", "--steps", 1]
    return [str(word) for word in [*given, "--weight_path", weights, *more]]


def test_a_folder_is_restored_with_a_page_and_any_batch_size_gives_the_same(tool, folders, weights, capsys):
    cv2.imwrite(str(folders / "dark" / "extra.png"), np.full((9, 9, 3), 9, np.uint8))
    assert tool.main(words(folders, weights, "--input_image_dir", folders / "bright", "--tile", 16)) == 0
    captured = capsys.readouterr()
    assert "4 images in" in captured.out and "diffusion: PSNR" in captured.out
    assert "1 of 4 have no well-lit picture" in captured.err and "extra.png" in captured.err
    page = (folders / "out" / "page" / "index.html").read_text(encoding="utf-8")
    assert "2.png" in page and "PSNR" in page
    first = {path.name: path.read_bytes() for path in (folders / "out").glob("*.png")}
    assert sorted(first) == ["0.png", "1.png", "2.png", "extra.png"]
    assert cv2.imread(str(folders / "out" / "2.png")).shape == (20, 30, 3)
    assert tool.main(words(folders, weights, "--overwrite", "--batch_size", 1, "--tile", 16)) == 0
    for name, data in first.items():
        one, other = (
            cv2.imdecode(np.frombuffer(raw, np.uint8), 1).astype(int)
            for raw in (data, (folders / "out" / name).read_bytes())
        )
        assert np.abs(one - other).max() <= 1, name


def test_an_annotation_chooses_the_pictures(tool, folders, weights):
    (folders / "names.json").write_text(json.dumps({"filename": ["1.png"]}))
    assert tool.main(words(folders, weights, "--annotation", folders / "names.json")) == 0
    assert [path.name for path in (folders / "out").iterdir()] == ["1.png"]


def test_a_size_that_differs_is_named_and_the_picture_is_restored(tool, folders, weights, capsys):
    cv2.imwrite(str(folders / "bright" / "0.png"), np.zeros((7, 7, 3), np.uint8))
    assert tool.main(words(folders, weights, "--input_image_dir", folders / "bright")) == 0
    assert "is 7x7, the picture is 24x20; nothing is resized" in capsys.readouterr().err
    assert (folders / "out" / "0.png").is_file()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--annotation", "NAMES"], "'9', which is not in"),
        (["--annotation", "absent.json"], "No such file"),
        (["--input_image_dir", "absent"], "`--input_image_dir` must be a folder"),
        (["--batch_size", "0"], "`--batch_size` must be at least 1"),
        (["--sampler", "euler"], "`sampler` must be one of"),
        (["--weight_path", "absent.weights.h5"], "`weights` must be a file"),
    ],
)
def test_wrong_use_is_one_line_and_writes_nothing(tool, folders, weights, capsys, more, message):
    (folders / "names.json").write_text(json.dumps({"filename": ["0.png", "9.png"]}))
    more = [str(folders / "names.json") if word == "NAMES" else word for word in more]
    assert tool.main(words(folders, weights, *more)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (folders / "out").exists()


def test_the_command_takes_sampler_steps_and_seed(folders, weights, capsys):
    results = []
    for seed in (1, 1, 2):
        out = folders / f"out{len(results)}"
        line = ["enhance", folders / "dark" / "0.png", "-o", out, "--method", "diffusion", "--weights", weights]
        line += ["--sampler", "ddim", "--steps", 2, "--seed", seed]
        assert cli.main([str(word) for word in line]) == 0
        results.append((out / "0.png").read_bytes())
    assert results[0] == results[1] != results[2]
    assert (
        cli.main(["enhance", str(folders / "dark"), "-o", str(folders / "x"), "--method", "gamma", "--steps", "3"]) == 2
    )
    assert "`--steps` is for --method diffusion" in capsys.readouterr().err


def test_an_experiment_file_gives_the_command_its_network(folders, weights):
    config = folders / "config.yaml"
    config.write_text("experiment: diffusion\nmodel: diffusion_unet_small\noptions: [prediction=x0]\n")
    line = ["enhance", folders / "dark" / "0.png", "-o", folders / "out", "--config", config, "--weights", weights]
    assert cli.main([str(word) for word in [*line, "--steps", 1]]) == 0
