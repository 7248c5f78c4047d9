"""`tfllv evaluate` from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from skimage import data

from tfllv import cli
from tfllv.commands import evaluate


@pytest.fixture
def folders(tmp_path):
    """Two pairs of 96x200: pictures (`low`), truths (`high`), a table; and one picture that shows something else."""
    for folder in ("low", "high", "other"):
        (tmp_path / folder).mkdir()
    for index in (1, 2):
        truth = data.coffee()[:96, 200 * index - 200 : 200 * index]
        Image.fromarray(truth // 3).save(tmp_path / "low" / f"{index}.png")
        Image.fromarray(truth).save(tmp_path / "high" / f"{index}.png")
    Image.fromarray(data.astronaut()[:300, :300]).save(tmp_path / "other" / "a.png")
    (tmp_path / "pairs.csv").write_text("scene,low,high\n1,low/1.png,high/1.png\n2,low/2.png,high/2.png\n")
    return tmp_path


def score(*words):
    return cli.main(["evaluate", "restoration", "--metrics", "psnr,ssim", *map(str, words)])


def test_finished_pictures_are_scored_and_the_numbers_saved(folders, capsys):
    output = folders / "scores.json"
    assert score("--pred", folders / "low", "--truth", folders / "high", "-o", output) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{folders / 'low'} against {folders / 'high'}: 2 of 2 pairs\n")
    assert "PSNR" in text and "RGB, raw" in text and "Gaussian 11x11, grey" in text
    report = json.loads(output.read_text(encoding="utf-8"))
    assert [row["key"] for row in report["metrics"]] == ["psnr", "ssim"]
    assert f"{report['metrics'][0]['mean']:.3f} dB" in text
    assert [image["name"] for image in report["images"]] == ["1.png", "2.png"]
    assert "RGB, one mean squared error" in report["metrics"][0]["protocol"]


def test_a_method_is_run_and_scored_in_one_command(folders, capsys):
    means = []
    for words in (
        ["--csv", folders / "pairs.csv"],
        ["--low", folders / "low", "--truth", folders / "high"],
        ["--csv", folders / "pairs.csv", "--set", "gamma=1.0"],
    ):
        assert score("--method", "gamma", *words, "-o", folders / "scores.json") == 0
        report = json.loads((folders / "scores.json").read_text(encoding="utf-8"))
        means.append(report["metrics"][0]["mean"])
        assert report["method"] == "gamma"
    assert means[0] == means[1] > means[2]
    assert capsys.readouterr().out.startswith(f"gamma against {folders / 'pairs.csv'}: 2 of 2 pairs\n")


def test_missing_and_broken_pairs_are_named_and_the_exit_code_is_one(folders, capsys):
    (folders / "low/2.png").unlink()
    assert score("--method", "gamma", "--csv", folders / "pairs.csv") == 1
    captured = capsys.readouterr()
    assert ": 1 of 2 pairs" in captured.out
    assert captured.err.startswith(f"missing: {folders / 'pairs.csv'}:3: no picture for low/2.png")
    (folders / "low/2.png").write_text("no image")
    assert score("--pred", folders / "low", "--truth", folders / "high") == 1
    assert "failed 2.png: " in capsys.readouterr().err


def test_sizes_that_differ_end_the_work_with_one_line_that_names_both(folders, capsys):
    Image.new("RGB", (199, 96)).save(folders / "low/1.png")
    assert score("--pred", folders / "low", "--truth", folders / "high", "-o", folders / "scores.json") == 2
    error = capsys.readouterr().err
    assert f"{folders / 'low/1.png'} is 199x96, {folders / 'high/1.png'} is 200x96" in error and error.count("\n") == 1
    assert not (folders / "scores.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--truth", "high"], "either `--pred` or `--method` must be given. Received: neither"),
        (["--pred", "low", "--method", "gamma", "--truth", "high"], "Received: both"),
        (["--pred", "low"], "`--truth` or `--csv` must be given"),
        (["--method", "gamma", "--truth", "high"], "`--low` or `--csv` must be given with `--method`"),
        (["--pred", "low", "--truth", "high", "--low", "low"], "`--low` is for `--method`"),
        (["--pred", "low", "--truth", "high", "--set", "gamma=2"], "`--set` and `--precision` are for"),
        (["--method", "gama", "--low", "low", "--truth", "high"], "did you mean 'gamma'"),
        (["--method", "gamma", "--weights", "x.h5", "--low", "low", "--truth", "high"], "is a classical method"),
        (["--pred", "low", "--truth", "absent"], "`truth` must be a folder of images"),
        (["--pred", "low", "--truth", "high", "--metrics", "pnsr"], "did you mean 'psnr'"),
        (["--pred", "low", "--truth", "high", "-o", "absent/x.json"], "must be in a folder that exists"),
        (["--pred", "low", "--truth", "high", "-o", "high"], "which is a folder"),
        (["--pred", "low", "--csv", "absent.csv"], "absent.csv"),
    ],
)
def test_wrong_use_is_one_line_and_exit_two(folders, monkeypatch, capsys, words, message):
    monkeypatch.chdir(folders)
    assert cli.main(["evaluate", "restoration", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tfllv evaluate: ") and message in error and error.count("\n") == 1


def test_leaks_are_printed_saved_and_the_exit_code(folders, capsys):
    output = folders / "leaks.json"
    words = ["evaluate", "leakage", str(folders / "low"), f"{folders / 'pairs.csv'}:high", "-o", str(output)]
    assert cli.main(words) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(line.endswith(".png") for line in lines[:2])
    assert lines[-1].startswith("2 of 2 images of A show a scene of B, 2 of 2 of B a scene of A")
    report = json.loads(output.read_text(encoding="utf-8"))
    assert {(pair["a"], pair["b"]) for pair in report["pairs"]} == {
        (str(folders / f"low/{k}.png"), str(folders / f"high/{k}.png")) for k in (1, 2)
    }


def test_sets_without_a_common_scene_exit_with_zero(folders, capsys):
    assert cli.main(["evaluate", "leakage", str(folders / "high"), str(folders / "other")]) == 0
    assert capsys.readouterr().out.startswith("0 of 2 images of A")


def test_pictures_without_edges_are_named(folders, capsys):
    Image.fromarray(np.full((70, 70, 3), 3, np.uint8)).save(folders / "other" / "flat.png")
    assert cli.main(["evaluate", "leakage", str(folders / "high"), str(folders / "other")]) == 0
    assert f"{folders / 'other/flat.png'} has no edges" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["high", "high"], "must be two sets"),
        (["high", "absent"], "`b` must be a folder"),
        (["high", "other", "--threshold", "2"], "`threshold` must be in"),
    ],
)
def test_wrong_use_of_leakage_is_one_line_and_exit_two(folders, monkeypatch, capsys, words, message):
    monkeypatch.chdir(folders)
    assert cli.main(["evaluate", "leakage", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tfllv evaluate: ") and message in error and error.count("\n") == 1


@pytest.mark.parametrize("kind", evaluate.KINDS)
def test_every_kind_has_help_and_refuses_what_it_does_not_know(kind, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["evaluate", kind, "--help"])
    assert stop.value.code == 0 and f"usage: tfllv evaluate {kind}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.main(["evaluate", kind, "--no-such-option"])
    assert stop.value.code == 2


def test_a_kind_must_be_named(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["evaluate"])
    assert stop.value.code == 2 and "KIND" in capsys.readouterr().err
