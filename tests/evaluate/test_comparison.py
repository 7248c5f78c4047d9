"""The comparison: its numbers, its references, and what it does with what fails."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tfllv import enhancers, metrics
from tfllv.evaluate import comparison, method_process


def photo(seed: int, height: int = 96, width: int = 192) -> np.ndarray:
    """A smooth scene with texture, so that NIQE has something to model."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 9, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return np.clip(np.asarray(coarse) + rng.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    low, high = tmp_path_factory.mktemp("low"), tmp_path_factory.mktemp("high")
    for seed, name in enumerate(("one", "two")):
        Image.fromarray(photo(seed)).save(high / f"{name}.png")
        Image.fromarray(photo(seed) // 3).save(low / f"{name}.png")
    (high / "two.png").rename(high / "two.bmp")  # the type is told by content, the pair by the stem
    return low, high


@pytest.fixture(scope="module")
def result(folders):
    low, high = folders
    return comparison.compare([low], reference=high, methods="gamma,adaptive_gamma", runs=3)


def row(result, name):
    return next(row for row in result.report["methods"] if row["name"] == name)


def test_every_number_equals_a_recomputation(result, folders):
    low, high = folders
    for image, truth in zip(result.report["images"], (high / "one.png", high / "two.bmp"), strict=True):
        truth = np.asarray(Image.open(truth))
        for name in ("gamma", "adaptive_gamma"):
            output = enhancers.get(name)(np.asarray(Image.open(low / image["name"])))
            for key in ("psnr", "ssim"):
                assert image["results"][name][key] == metrics.measure(key, output, truth)
            assert image["results"][name]["niqe"] == metrics.niqe(output)


def test_a_row_is_the_mean_of_its_pictures(result):
    for name in ("input", "gamma", "adaptive_gamma"):
        for key in ("psnr", "ssim", "niqe"):
            values = [image["results"][name][key] for image in result.report["images"]]
            assert row(result, name)[key] == pytest.approx(np.mean(values), rel=1e-12)
            assert row(result, name)[f"{key}_pictures"] == 2


def test_times_are_medians_of_the_runs_asked_for(result):
    medians = []
    for image in result.report["images"]:
        timing = image["results"]["gamma"]
        assert len(timing["seconds"]) == 3 and min(timing["seconds"]) > 0
        assert timing["median_seconds"] == sorted(timing["seconds"])[1]
        medians.append(timing["median_seconds"])
    assert row(result, "gamma")["median_seconds"] == pytest.approx(np.mean(medians))  # the median of two
    megapixels = 2 * 96 * 192 / 1e6
    assert row(result, "gamma")["throughput_mp_per_s"] == pytest.approx(megapixels / sum(medians))


def test_memory_is_that_of_a_small_process_not_of_this_one(result):
    for name in ("gamma", "adaptive_gamma"):
        found = row(result, name)
        assert 15 < found["loaded_memory_mb"] <= found["peak_memory_mb"] < 400


def test_the_input_and_the_truth_are_baselines_without_a_time(result):
    names = [each["name"] for each in result.report["methods"]]
    assert names == ["input", "reference", "gamma", "adaptive_gamma"]
    assert row(result, "input")["median_seconds"] is None
    assert row(result, "reference")["psnr"] is None and row(result, "reference")["niqe"] > 0


def test_the_protocol_says_what_every_column_means(result):
    protocol = result.report["protocol"]
    assert {"time", "memory", "throughput", "PSNR", "SSIM", "NIQE"} <= set(protocol)
    assert "3 timed runs" in protocol["time"]


def test_without_references_there_is_niqe_alone(folders):
    result = comparison.compare([folders[0] / "one.png"], methods=["gamma"], runs=1)
    scores = result.report["images"][0]["results"]["gamma"]
    assert scores["psnr"] is None and scores["ssim"] is None and scores["niqe"] > 0
    assert set(result.pictures[0]) == {"input", "gamma"}


def test_a_bad_file_is_named_and_the_rest_is_done(folders, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    shutil.copy(folders[0] / "one.png", tmp_path / "fine.png")
    result = comparison.compare([tmp_path, tmp_path / "absent.jpg"], methods="gamma", runs=1)
    assert [image["name"] for image in result.report["images"]] == ["fine.png"]
    assert [failure["what"].rsplit("/", 1)[-1] for failure in result.report["failed"]] == ["absent.jpg", "broken.png"]
    assert all(failure["reason"] and "\n" not in failure["reason"] for failure in result.report["failed"])


def test_a_truth_of_another_size_is_a_failure_and_not_resized(folders, tmp_path):
    Image.fromarray(photo(0, 50, 40)).save(tmp_path / "one.png")
    result = comparison.compare([folders[0] / "one.png"], reference=tmp_path, methods="gamma", runs=1)
    assert result.report["images"][0]["results"]["gamma"]["psnr"] is None
    assert result.report["failed"][0]["reason"] == "is 40x50, the picture is 192x96; nothing is resized"


def test_a_picture_too_small_for_a_score_has_none_and_says_why(tmp_path):
    Image.fromarray(photo(0, 5, 4)).save(tmp_path / "tiny.png")
    result = comparison.compare([tmp_path / "tiny.png"], reference=tmp_path, methods="gamma", runs=1)
    image = result.report["images"][0]
    assert image["results"]["gamma"]["ssim"] is None and image["results"]["gamma"]["niqe"] is None
    assert image["results"]["input"]["psnr"] == float("inf")
    assert any(note.startswith("NIQE: ") for note in image["notes"])
    assert not result.report["failed"]


def test_a_network_without_weights_is_skipped_with_the_reason(folders):
    result = comparison.compare([folders[0] / "one.png"], methods="zero_dce,gamma", runs=1)
    assert result.report["skipped"][0]["method"] == "zero_dce"
    assert "no weights" in result.report["skipped"][0]["reason"]
    assert [each["name"] for each in result.report["methods"]] == ["input", "gamma"]


def test_a_method_that_fails_is_named(tmp_path):
    np.save(tmp_path / "not-an-image.npy", np.zeros((4, 4, 5), np.uint8))
    (tmp_path / "work").mkdir()
    result = method_process.measure("clahe", [tmp_path / "not-an-image.npy"], tmp_path / "work", runs=1)
    assert "Error: " in result["pictures"][0]["error"]


def test_a_process_that_dies_is_an_error_with_its_last_line(tmp_path):
    result = method_process.measure("gamma", [tmp_path / "absent.npy"], tmp_path, runs=1)
    assert result["error"].startswith("its process ended with code 1: FileNotFoundError")


def test_globs_and_folders_give_each_file_once(folders):
    failed: list[dict[str, str]] = []
    low = folders[0]
    found = comparison.find_files([low / "one.png", low, f"{low}/*.png"], failed)
    assert [file.name for file in found] == ["one.png", "two.png"] and not failed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": "gama"}, "did you mean 'gamma'"),
        ({"methods": ","}, "`methods` must name methods"),
        ({"runs": 0}, "`runs` must be >= 1"),
        ({"reference": "absent"}, "`reference` must be a folder"),
        ({"methods": "gamma", "weights": {"sgz": "x"}}, "`weights` must be for a network that is compared"),
        ({"weights": {"sgz": "absent.weights.h5"}}, "`weights` must be a file"),
    ],
)
def test_wrong_options_are_refused_before_any_work(folders, options, message):
    with pytest.raises(ValueError, match=message):
        comparison.compare(["absent.png"], **options)


def test_no_readable_picture_is_an_error_that_names_them(tmp_path):
    with pytest.raises(ValueError, match=r"no picture could be read: .*absent.png: there is no such image"):
        comparison.compare([tmp_path / "absent.png"])


def test_pictures_on_the_page_are_no_larger_than_asked():
    from io import BytesIO

    with Image.open(BytesIO(comparison.encode(photo(0, 40, 100), 50))) as picture:
        assert picture.size == (50, 20) and picture.format == "WEBP"


@pytest.mark.slow
def test_all_methods_run_on_a_picture(folders, tmp_path, shared):
    weights = {}
    for name in ("sgz", "zero_dce", "zero_dce_pp"):
        weights[name] = str(tmp_path / f"{name}.weights.h5")
        source = str(shared / f"weights/{name}_Epoch99.pth")
        command = [sys.executable, "-m", "tfllv", "import-weights", name, source, "-o", weights[name]]
        subprocess.run(command, check=True, capture_output=True, cwd=pathlib.Path(__file__).parents[2])
    result = comparison.compare([folders[0]], reference=folders[1], weights=weights, runs=1)
    assert not result.report["failed"]
    unknown = ["mirnet", "multitask"]  # no weights of them are at hand
    assert sorted(each["method"] for each in result.report["skipped"]) == unknown
    names = [name for name in enhancers.METHODS if name not in unknown]
    assert [each["name"] for each in result.report["methods"]][2:] == names
    assert row(result, "sgz")["parameters"] == 10_561 and row(result, "zero_dce")["parameters"] == 79_416
    # Seven 3x3 convolutions hold 79,200 weights, each used once a pixel.
    assert row(result, "zero_dce")["macs"] == 79_200 * 600 * 400
    json.dumps(result.report, allow_nan=False)
