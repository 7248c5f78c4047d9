from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tfllv import cli, contracts
from tfllv.commands import darken as command
from tfllv.inputs import image_files
from tfllv.ops import darken
from tfllv.runner import darken as runner


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """in/a.png, in/b.png and in/sub/c.png, well lit, of odd and even sizes; the working folder is their parent."""
    generator = np.random.default_rng(0)
    for name, size in (("a.png", (20, 30, 3)), ("b.png", (21, 33, 3)), ("sub/c.png", (8, 8, 3))):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(60, 250, size, np.uint8)).save(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words):
    return cli.main(["darken", *words])


def pixels(path):
    return image_files.read_image(path).pixels


def manifest(path):
    return json.loads(pathlib.Path(path).read_text())["runs"]


@pytest.mark.parametrize("recipe", darken.RECIPES)
def test_files_hold_the_bits_of_the_function(recipe, photos, capsys):
    assert run("in", "-r", "-o", "out", "--recipe", recipe, "--seed", "5") == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("3 images in ") and captured.err == ""
    for name in ("a.png", "b.png", "sub/c.png"):
        expected = darken.darken(pixels(photos / "in" / name), recipe, runner.file_seed(5, name))
        np.testing.assert_array_equal(pixels(photos / "out" / name), contracts.to_uint8(expected), name)


def test_the_manifest_says_how_to_make_each_file_again(photos):
    assert run("in", "-r", "-o", "out", "--recipe", "raw", "--set", "gamma=2.5", "bits=[12,14]", "--seed", "-3") == 0
    (made,) = manifest("out/darken.json")
    assert made["recipe"] == "raw" and made["seed"] == -3
    assert made["options"]["gamma"] == [2.5, 2.5] and made["options"]["bits"] == [12, 14]
    assert list(made["options"]) == list(darken.RECIPES["raw"].options)
    assert list(made["files"]) == ["a.png", "b.png", "sub/c.png"]
    for name, seed in made["files"].items():
        again = darken.darken(pixels(photos / "in" / name), made["recipe"], seed, **made["options"])
        np.testing.assert_array_equal(pixels(photos / "out" / name), contracts.to_uint8(again))


def test_a_file_depends_on_its_name_and_the_seed_alone(photos):
    assert run("in", "-r", "-o", "all", "--threads", "3") == 0
    assert run("in/b.png", "-o", "alone", "--threads", "1") == 0
    assert run("in/b.png", "-o", "named.png") == 0
    assert run("in/b.png", "-o", "other", "--seed", "1") == 0
    whole = (photos / "all/b.png").read_bytes()
    assert (photos / "alone/b.png").read_bytes() == whole == (photos / "named.png").read_bytes()
    assert (photos / "other/b.png").read_bytes() != whole
    shutil.copy("in/b.png", "in/d.png")
    assert run("in/d.png", "-o", "all") == 0
    assert (photos / "all/d.png").read_bytes() != whole, "the same picture under another name"


def test_a_second_command_is_added_to_the_manifest(photos):
    assert run("in/a.png", "-o", "out") == 0
    assert run("in/b.png", "-o", "out") == 0
    assert [list(made["files"]) for made in manifest("out/darken.json")] == [["a.png", "b.png"]]
    assert run("in/a.png", "-o", "out", "--recipe", "raw", "--overwrite") == 0
    first, second = manifest("out/darken.json")
    assert (first["recipe"], list(first["files"])) == ("statistical", ["b.png"])
    assert (second["recipe"], list(second["files"])) == ("raw", ["a.png"])
    assert run("in/b.png", "-o", "out", "--recipe", "raw", "--overwrite") == 0
    assert [list(made["files"]) for made in manifest("out/darken.json")] == [["a.png", "b.png"]]


def test_one_file_has_its_manifest_beside_it(photos):
    assert run("in/a.png", "-o", "dark.jpg", "--quality", "80") == 0
    assert image_files.read_header("dark.jpg").format == "JPEG"
    assert list(manifest("dark.jpg.json")[0]["files"]) == ["a.png"]


def test_names_with_brackets_come_through_the_manifest(photos):
    name = "[1, 2] [ ü ].png"
    shutil.copy("in/a.png", photos / "in" / name)
    assert run(str(photos / "in"), "-o", "out") == 0
    assert name in manifest("out/darken.json")[0]["files"]


def test_bad_files_are_named_and_the_others_done(photos, capsys):
    (photos / "in/bad.png").write_bytes(b"junk")
    (photos / "in/film.mp4").write_bytes(b"junk")
    assert run("in", "-o", "out") == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines()[0].startswith("in/bad.png: content that begins with 'junk' found")
    assert captured.err.splitlines()[1] == "in/film.mp4: is a video; expected an image"
    assert "2 images" in captured.out and "2 failed" in captured.out
    assert list(manifest("out/darken.json")[0]["files"]) == ["a.png", "b.png"]
    assert run("in/a.png", "-o", "out") == 1
    assert "--overwrite" in capsys.readouterr().err


def test_sixteen_bits_and_alpha_are_kept(photos):
    import cv2

    deep = np.random.default_rng(1).integers(0, 65536, (6, 7, 3), np.uint16)
    cv2.imwrite("deep.png", deep)
    Image.fromarray(np.random.default_rng(2).integers(0, 256, (6, 7, 4), np.uint8)).save("clear.png")
    assert run("deep.png", "clear.png", "-o", "out") == 0
    source = contracts.to_float(deep[..., ::-1])
    expected = darken.darken(source, "statistical", runner.file_seed(0, "deep.png"))
    np.testing.assert_array_equal(pixels("out/deep.png"), contracts.to_type(expected, np.dtype(np.uint16)))
    np.testing.assert_array_equal(
        image_files.read_image("out/clear.png").alpha, image_files.read_image("clear.png").alpha
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["in", "-o", "out", "--recipe", "gama_noise"], "did you mean 'gamma_noise'?"),
        (["in", "-o", "out", "--recipe", "raw", "--set", "gama=3"], "did you mean 'gamma'?"),
        (["in", "-o", "out", "--recipe", "raw", "--set", "gamma=[3,2]"], "low <= high"),
        (["in", "-o", "out", "--recipe", "raw", "--set", "gamma=[3"], "`gamma` must be a number"),
        (["in", "-o", "out", "--set", "level"], "`--set` must be OPTION=VALUE"),
        (["in", "-o", "out", "--set", "level=bright"], "`level` must be a number"),
        (["in", "-o", "out", "--threads", "0"], "`threads` must be >= 1"),
        (["in", "-o", "out", "--quality", "0"], "`quality` must be from 1 to 100"),
        (["in", "-o", "in"], "must not be the input folder"),
        (["none", "-o", "out"], "where none is found"),
        (["-o", "out"], "no IN"),
        (["in"], "no OUT"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2_with_nothing_written(words, message, photos, capsys):
    assert run(*words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("tfllv darken: ") and captured.err.count("\n") == 1
    assert not (photos / "out").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"runs": [{}]}', '{"runs": 3}', '{"runs": [{"files": 3}]}', "\xff"])
def test_a_file_that_is_no_manifest_is_left_alone(text, photos, capsys):
    (photos / "out").mkdir()
    (photos / "out/darken.json").write_bytes(text.encode("latin-1"))
    assert run("in", "-o", "out") == 2
    assert "not a manifest of this command" in capsys.readouterr().err
    assert [path.name for path in (photos / "out").iterdir()] == ["darken.json"]
    assert (photos / "out/darken.json").read_bytes() == text.encode("latin-1")


def test_options_in_scientific_notation_are_numbers(photos):
    assert run("in/a.png", "-o", "out", "--set", "shot=[1e-4,2e-4]", "read=1e-7") == 0
    options = manifest("out/darken.json")[0]["options"]
    assert options["shot"] == [1e-4, 2e-4] and options["read"] == [1e-7, 1e-7]


def test_the_list_names_every_recipe_and_option(capsys):
    assert run("--list") == 0
    text = capsys.readouterr().out
    for name, recipe in darken.RECIPES.items():
        assert f"{name}: {recipe.summary}" in text
        assert all(f"  {key}=" in text for key in recipe.options)


def test_no_tensorflow_is_imported(photos):
    code = (
        "import sys\nfrom tfllv import cli\nassert cli.main(sys.argv[1:]) == 0\nassert 'tensorflow' not in sys.modules"
    )
    words = [sys.executable, "-W", "error", "-c", code, "darken", str(photos / "in"), "-o", str(photos / "out")]
    subprocess.run(words, check=True, cwd=pathlib.Path(__file__).parents[2], timeout=60, capture_output=True)


def test_every_option_is_described():
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert all(action.help for action in parser._actions)
