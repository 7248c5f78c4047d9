from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tfllv import cli, enhancers, models
from tfllv.commands import enhance
from tfllv.inputs import image_files

ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """in/a.jpg, in/b.png and in/sub/c.png, dark; the working folder is their parent."""
    generator = np.random.default_rng(0)
    for name in ("a.jpg", "b.png", "sub/c.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 60, (20, 30, 3), np.uint8)).save(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words):
    return cli.main(["enhance", *words])


def test_a_folder_is_brightened_and_summed_up_in_one_line(photos, capsys):
    assert run("in", "-r", "-o", "out", "--method", "gamma") == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("3 images in ") and captured.out.endswith("; 0 failed\n")
    assert captured.out.count("\n") == 1
    assert captured.err == ""
    for name in ("a.jpg", "b.png", "sub/c.png"):
        before, after = (image_files.read_image(photos / folder / name).pixels for folder in ("in", "out"))
        assert after.mean() > before.mean() + 30


def test_a_single_photo_goes_to_the_named_file(photos, capsys):
    assert run("in/b.png", "-o", "bright.jpg", "--method", "gamma", "--quality", "80") == 0
    assert image_files.read_header(photos / "bright.jpg").format == "JPEG"


def test_a_bad_file_is_named_and_the_exit_code_is_1(photos, capsys):
    (photos / "in/bad.png").write_bytes(b"junk")
    assert run("in", "-o", "out", "--method", "gamma") == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("in/bad.png: content that begins with 'junk' found")
    assert captured.err.count("\n") == 1
    assert "2 images" in captured.out and "1 failed" in captured.out
    assert run("in/a.jpg", "-o", "out", "--method", "gamma") == 1
    assert "--overwrite" in capsys.readouterr().err
    assert run("in/a.jpg", "-o", "out", "--method", "gamma", "--overwrite") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["in", "-o", "out", "--method", "gama"], "'gama'; did you mean 'gamma'?"),
        (["in", "-o", "out", "--method", "gamma", "--weights", "w.h5"], "`--weights` is for networks"),
        (["in", "-o", "out", "--method", "gamma", "--precision", "bfloat16"], "`--precision` is for networks"),
        (["in", "-o", "out", "--method", "clahe", "--runtime", "openvino"], "`runtime` must be tensorflow but for sgz"),
        (["in", "-o", "out", "--weights", "none.weights.h5"], "'none.weights.h5', which does not exist"),
        (["in", "-o", "in", "--method", "gamma"], "must not be the input folder"),
        (["none", "-o", "out", "--method", "gamma"], "'none', where none is found"),
        (["in", "-o", "out", "--method", "gamma", "--tile", "3"], "`--tile` must be auto, off or a number >= 64"),
        (["in", "-o", "out", "--method", "gamma", "--tile", "big"], "`--tile` must be"),
        (["in", "-o", "out", "--method", "gamma", "--threads", "0"], "`--threads` must be >= 1"),
        (["in", "-o", "out", "--method", "gamma", "--quality", "0"], "`--quality` must be"),
        (["in", "-o", "out", "--method", "gamma", "--smoothing", "1"], "`--smoothing` must be"),
        (["in", "-o", "out", "--method", "gamma", "--set", "x"], "`--set` must be OPTION=VALUE"),
        (["in", "-o", "out", "--method", "gamma", "--set", "no_such=1"], "no_such"),
        (["in", "-o", "out", "--method", "gamma", "--set", "gamma=-1"], "gamma"),
        (["in", "-o", "out", "--config", "none.yaml"], "none.yaml"),
        (["in", "-o", "out", "--config", "list.yaml"], "list.yaml: a mapping such as"),
        (["in", "-o", "out", "--config", "broken.yaml"], "broken.yaml: not YAML"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2_with_nothing_written(words, message, photos, capsys):
    (photos / "list.yaml").write_text("- 1\n")
    (photos / "broken.yaml").write_text("{a: [\n")
    assert run(*words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("tfllv enhance: ") and captured.err.count("\n") == 1
    assert not (photos / "out").exists()


def test_options_change_the_result_and_the_command_line_wins_over_the_config(photos):
    (photos / "method.yaml").write_text("method: gamma\ngamma: 0.9\n")
    means = []
    for number, words in enumerate(([], ["--set", "gamma=0.3"], ["--method", "clahe", "--set", "gamma=0.3"])):
        code = run("in/b.png", "-o", f"out{number}", "--config", "method.yaml", *words)
        if number == 2:
            assert code == 2, "clahe has no option gamma"
        else:
            assert code == 0
            means.append(image_files.read_image(photos / f"out{number}/b.png").pixels.mean())
    assert means[1] > means[0] + 20


class Network:
    """Stands for a network: records how it was asked for, hands pictures through."""

    method = enhancers.METHODS["sgz"]

    def tiled(self, image, tile=None):
        Network.tile = tile
        return image


@pytest.fixture
def asked(monkeypatch):
    calls = []

    def get(name, **options):
        calls.append((name, options))
        return Network()

    monkeypatch.setattr(enhancers, "get", get)
    return calls


@pytest.mark.parametrize(("word", "tile"), [("auto", None), ("off", 0), ("256", 256)])
def test_network_options_reach_the_network(word, tile, photos, asked):
    (photos / "w.weights.h5").write_bytes(b"")
    words = ["--weights", "w.weights.h5", "--precision", "bfloat16", "--tile", word, "--set", "scale_factor=4"]
    assert run("in/b.png", "-o", "out", *words) == 0
    assert asked == [("sgz", {"weights": "w.weights.h5", "precision": "bfloat16", "scale_factor": 4})]
    assert Network.tile == tile


def test_the_network_of_an_experiment_file_is_taken(photos, asked):
    (photos / "e.yaml").write_text("experiment: zero_reference\nmodel: sgz\nconv_type: tc\nlr: 1e-3\n")
    assert run("in/b.png", "-o", "out", "--config", "e.yaml", "--set", "scale_factor=2") == 0
    assert asked == [("sgz", {"conv_type": "tc", "scale_factor": 2})]


def test_the_network_is_not_made_when_the_files_are_wrong(photos, asked, capsys):
    assert run("in", "-o", "in") == 2
    assert not asked


def test_an_interrupt_ends_with_130_and_whole_files_only(photos):
    for number in range(40):
        Image.fromarray(np.full((600, 800, 3), number, np.uint8)).save(photos / f"in/{number:02d}.png")
    words = [sys.executable, "-m", "tfllv", "enhance", "in", "-o", "out", "--method", "lime", "--threads", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        words,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        # A shell's background job, which these tests may be, ignores interrupts, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        while not list((photos / "out").glob("*.png")) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, "tfllv enhance: stopped.\n")
    written = sorted((photos / "out").iterdir())
    assert 0 < len(written) < 42 and all(path.suffix == ".png" and path.name[0] != "." for path in written)
    assert all(image_files.read_image(path).pixels.shape[2] == 3 for path in written)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gamma", "sgz"])
def test_photos_of_24_megapixels_stay_under_2_gb(method, tmp_path):
    if method == "sgz" and not models.shipped_weights("sgz"):
        pytest.skip("no weights of sgz are shipped yet")
    pixels = np.random.default_rng(0).integers(0, 60, (40, 60, 3), np.uint8).repeat(100, 0).repeat(100, 1)
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "b.jpg"):
        image_files.write_image(tmp_path / "in" / name, pixels)
    image_files.write_image(tmp_path / "in/c.png", pixels, alpha=pixels[..., 0])
    code = (
        "import resource, sys\nfrom tfllv import cli\nassert cli.main(sys.argv[1:]) == 0\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    words = [
        sys.executable,
        "-c",
        code,
        "enhance",
        str(tmp_path / "in"),
        "-o",
        str(tmp_path / "out"),
        "--method",
        method,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=600)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[-1]) < 2_000_000, "peak memory in KB"
    assert image_files.read_header(tmp_path / "out/c.png").upright_size == (6000, 4000)


def test_every_option_is_described():
    import argparse

    parser = argparse.ArgumentParser()
    enhance.add_arguments(parser)
    assert all(action.help for action in parser._actions)
