"""The tools that make sets of classes for probes."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import pathlib

import numpy as np
import pytest
from PIL import Image

from tfllv.evaluate import labelled, probe

ROOT = pathlib.Path(__file__).parents[2]


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


shapes, patches = load("create_shape_classes"), load("create_patch_classes")


def read(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.png"))
    }


def test_shapes_are_written_a_folder_a_class_and_by_the_seed_alone(tmp_path, capsys):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        words = ["--output", str(tmp_path / name), "--per_class", "3", "--size", "48", "--seed", str(seed)]
        assert shapes.main(words) == 0
    assert "30 pictures of 10 classes" in capsys.readouterr().out
    assert read(tmp_path / "a") == read(tmp_path / "b")
    assert not set(read(tmp_path / "a").values()) & set(read(tmp_path / "c").values())
    assert len(set(read(tmp_path / "a").values())) == 30
    data = labelled.read(tmp_path / "a")
    assert set(data.classes) == set(shapes.SHAPES) and len(data) == 30
    picture = np.asarray(Image.open(data.paths[0]))
    assert picture.shape == (48, 48, 3) and picture.mean() < 60


@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_every_figure_lies_within_its_picture_and_covers_a_share_that_is_drawn_alike(shape):
    for seed in range(20):
        figure = shapes._figure(shape, 64, np.random.default_rng(seed))
        drawn = np.random.default_rng(seed).uniform(*shapes.AREA)
        # A figure that was cut off by the border would cover less.
        assert abs(figure.mean() - drawn) < 0.02, seed


def test_colours_and_their_spread_do_not_tell_the_shapes():
    count = 40
    pictures = [
        shapes.draw(shape, 48, np.random.default_rng((0, label, number)))
        for label, shape in enumerate(shapes.SHAPES)
        for number in range(count)
    ]
    features = np.array([[*p.mean((0, 1)), *p.std((0, 1))] for p in pictures], np.float32)
    labels = np.repeat(np.arange(len(shapes.SHAPES)), count)
    data = labelled.LabelledSet(tuple(pictures), labels, tuple(shapes.SHAPES), np.array([]), None, np.array([""] * 400))
    scores, _ = probe.predict(features, data, probe.parts(data, "five_fold"))
    assert (scores.argmax(1) == labels).mean() < 0.18  # chance is 0.1, three standard deviations 0.045


def test_patches_are_of_one_class_each_with_their_pictures_as_groups(tmp_path, rng):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number in range(4):
        ids = np.kron(rng.permutation(6).reshape(2, 3), np.ones((32, 32))).astype(np.uint8)
        Image.fromarray(np.stack([ids * 40] * 3, -1)).save(tmp_path / "images" / f"{number}.png")
        Image.fromarray(ids).save(tmp_path / "masks" / f"{number}.png")
    words = ["--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks"), "--num_classes", "5"]
    words += ["--size", "32", "--least", "4", "--recipe", "none", "--output", str(tmp_path / "out")]
    assert patches.main(words) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "labels.csv").read_text().splitlines()))
    assert len(rows) == 4 * 5  # the sixth id is no class
    for row in rows:
        pixels = np.asarray(Image.open(tmp_path / "out" / row["image"]))
        assert (pixels == 40 * int(row["label"])).all()
    assert {row["group"] for row in rows} == {"0", "1", "2", "3"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "8"], "`size` must be at least 32. Received: 8."),
        (["--per_class", "0"], "`per_class` must be at least 1. Received: 0."),
        (["--recipe", "night"], "`recipe` must be one of"),
    ],
)
def test_wrong_options_are_one_line_and_write_nothing(tmp_path, capsys, words, message):
    assert shapes.main(["--output", str(tmp_path / "out"), *words]) == 2
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert shapes.main(["--output", str(tmp_path)]) == 2
    assert "must not be there yet" in capsys.readouterr().err
