"""`tfllv compare` from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tfllv import cli


@pytest.fixture
def picture(tmp_path, rng):
    path = tmp_path / "night.png"
    Image.fromarray(rng.integers(0, 60, (20, 30, 3), np.uint8)).save(path)
    return path


def test_compare_writes_the_page_and_the_numbers_and_prints_where(picture, tmp_path, capsys):
    report = tmp_path / "report"
    code = cli.main(["compare", str(picture), "-o", str(report), "--methods", "gamma,exposure", "--runs", "1"])
    assert code == 0
    assert capsys.readouterr().out.strip() == str(report / "index.html")
    data = json.loads((report / "compare.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in data["methods"]] == ["input", "gamma", "exposure"]
    assert "gamma" in (report / "index.html").read_text(encoding="utf-8")


def test_a_bad_file_is_named_the_rest_done_and_the_exit_code_is_one(picture, tmp_path, capsys):
    bad = tmp_path / "bad.jpg"
    bad.write_text("not an image")
    report = tmp_path / "report"
    assert cli.main(["compare", str(bad), str(picture), "-o", str(report), "--methods", "gamma", "--runs", "1"]) == 1
    assert f"failed {bad}: " in capsys.readouterr().err
    data = json.loads((report / "compare.json").read_text(encoding="utf-8"))
    assert [image["name"] for image in data["images"]] == ["night.png"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--methods", "gama"], "did you mean 'gamma'"),
        (["--weights", "sgz"], "`weights` must be NAME=FILE"),
        (["--reference", "absent"], "`reference` must be a folder"),
    ],
)
def test_wrong_use_is_one_line_and_exit_two(picture, tmp_path, capsys, extra, message):
    assert cli.main(["compare", str(picture), "-o", str(tmp_path / "report"), *extra]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tfllv compare: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "report").exists()


def test_an_existing_report_is_refused_before_any_work(picture, tmp_path, capsys):
    (tmp_path / "report").mkdir()
    assert cli.main(["compare", str(picture), "-o", str(tmp_path / "report"), "--methods", "gamma"]) == 2
    assert "pass --overwrite" in capsys.readouterr().err
    assert not list((tmp_path / "report").iterdir())
