"""Scores of restored pictures: each cell against an implementation that is not ours."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage, signal
from skimage import color, data
from skimage import metrics as skimage_metrics

from tfllv import enhancers, metrics
from tfllv.evaluate import image_pairs, restoration

SIZE = (200, 230)


def save(path, pixels):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def photos():
    """Three (picture, truth): too dark, too bright, noisy."""
    rng = np.random.default_rng(0)
    truths = [getattr(data, name)()[: SIZE[0], : SIZE[1]] for name in ("astronaut", "coffee", "chelsea")]
    factors = (0.4, 1.3, 0.9)
    return [
        (np.clip(factor * truth + rng.normal(0, 6, truth.shape), 0, 255).astype(np.uint8), truth)
        for factor, truth in zip(factors, truths, strict=True)
    ]


@pytest.fixture(scope="module")
def folders(photos, tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    for index, (picture, truth) in enumerate(photos):
        save(root / "pred" / f"{index}.png", picture)
        save(root / "truth" / f"{index}.png", truth)
    return root


@pytest.fixture(scope="module")
def report(folders):
    pairs, _ = image_pairs.pair_folders(folders / "pred", folders / "truth")
    return restoration.evaluate(pairs, names=list(metrics.METRICS))


def luma(image):
    return color.rgb2yuv(image / 255)[..., 0]


def match_mean(picture, truth):
    scaled = picture * (luma(truth).mean() / luma(picture).mean())
    return np.floor(np.clip(scaled, 0, 255) + 0.5).astype(np.uint8)


def psnr(picture, truth, levels=None):
    if levels == "full":
        return skimage_metrics.peak_signal_noise_ratio(luma(truth), luma(picture), data_range=1)
    if levels == "studio":
        planes = [color.rgb2ycbcr(x)[..., 0] for x in (truth, picture)]
        return skimage_metrics.peak_signal_noise_ratio(*planes, data_range=255)
    return skimage_metrics.peak_signal_noise_ratio(truth, picture)


def ssim(picture, truth, **options):
    return skimage_metrics.structural_similarity(picture, truth, data_range=255, **options)


def grey(image):
    return np.floor(255 * luma(image) + 0.5 + 1e-9)


def gmsd(picture, truth):
    """After the authors' MATLAB code: conv2 with `same`, whose origin for a 2x2 kernel is its lower right."""
    gradients = []
    for image in (truth, picture):
        full = signal.convolve2d(grey(image), np.full((2, 2), 0.25))[1:, 1:][::2, ::2]
        kernel = np.array([[1, 0, -1]] * 3) / 3
        edges = [ndimage.convolve(full, k, mode="constant") for k in (kernel, kernel.T)]
        gradients.append(np.sqrt(edges[0] ** 2 + edges[1] ** 2))
    similarity = (2 * gradients[0] * gradients[1] + 170) / (gradients[0] ** 2 + gradients[1] ** 2 + 170)
    return similarity.std(ddof=1)


GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
EXPECTED = {
    "psnr": psnr,
    "psnr_gt_mean": lambda x, y: psnr(match_mean(x, y), y),
    "psnr_y": lambda x, y: psnr(x, y, "full"),
    "psnr_y_gt_mean": lambda x, y: psnr(match_mean(x, y), y, "full"),
    "psnr_y_studio": lambda x, y: psnr(x, y, "studio"),
    "psnr_y_studio_gt_mean": lambda x, y: psnr(match_mean(x, y), y, "studio"),
    "ssim": lambda x, y: ssim(grey(x), grey(y), **GAUSSIAN),
    "ssim_rgb": lambda x, y: ssim(x, y, channel_axis=-1, **GAUSSIAN),
    "ssim_uniform_grey": lambda x, y: ssim(grey(x), grey(y)),
    "ssim_uniform": lambda x, y: ssim(x, y, channel_axis=-1),
    "gmsd": gmsd,
    "mae": lambda x, y: np.abs(x.astype(float) - y).mean() / 255,
}


def test_each_metric_with_a_truth_has_an_independent_reference_here():
    assert set(EXPECTED) == {key for key, metric in metrics.METRICS.items() if metric.needs_reference}


@pytest.mark.parametrize("key", EXPECTED)
def test_each_cell_agrees_with_its_independent_reference(report, photos, key):
    expected = np.array([EXPECTED[key](*pair) for pair in photos])
    tolerance = 1e-3 if key.startswith("psnr") else 1e-4
    scores = [image["scores"][key] for image in report["images"]]
    np.testing.assert_allclose(scores, expected, atol=tolerance, rtol=0)
    (row,) = [row for row in report["metrics"] if row["key"] == key]
    assert row["mean"] == pytest.approx(expected.mean(), abs=tolerance)
    assert row["sd"] == pytest.approx(expected.std(ddof=1), abs=tolerance)
    low, high = row["interval"]
    assert min(scores) - 1e-9 <= low < row["mean"] < high <= max(scores) + 1e-9
    assert row["images"] == 3


def test_the_calibration_pictures_have_the_values_of_the_original_implementations(shared):
    root = shared / "data/calibration"
    pairs, missing = image_pairs.pair_folders(root / "dist_dir", root / "ref_dir")
    report = restoration.evaluate(pairs, names=["psnr", "ssim", "gmsd", "niqe"])
    found = {image["name"]: image["scores"] for image in report["images"]}
    for name, psnr_, ssim_, gmsd_, niqe in (
        ("I04.bmp", 20.99, 0.9978, 0.0005, 3.6549),
        ("I06.bmp", 27.01, 0.9989, 0.0004, 3.2355),
        ("I19.bmp", 21.62, 0.6519, 0.2050, 8.6352),
    ):
        assert found[name]["psnr"] == pytest.approx(psnr_, abs=0.005)
        assert found[name]["ssim"] == pytest.approx(ssim_, abs=5e-5)
        assert found[name]["gmsd"] == pytest.approx(gmsd_, abs=5e-5)
        assert found[name]["niqe"] == pytest.approx(niqe, rel=0.005)
    assert missing == []


def test_every_line_of_the_table_names_its_protocol_and_no_two_are_alike(report):
    lines = restoration.table(report).splitlines()
    rows = lines[1 : lines.index("")]
    assert len(rows) == len(metrics.METRICS)
    for row, metric in zip(rows, metrics.METRICS.values(), strict=True):
        assert metric.variant in row
    assert len({row.split("  higher")[0].split("  lower")[0] for row in rows}) == len(rows)
    assert any("nothing resized or cropped" in line for line in lines)
    assert any("95% percentile bootstrap" in line and "seed 0" in line for line in lines)


def test_gt_mean_and_raw_stand_side_by_side_and_differ(report):
    values = {row["key"]: row["mean"] for row in report["metrics"]}
    assert values["psnr_gt_mean"] > values["psnr"] + 2
    assert values["psnr_y_studio"] == pytest.approx(values["psnr_y"] + 20 * np.log10(255 / 219), abs=1e-6)


def test_the_report_is_strict_json(report):
    text = json.dumps(report, allow_nan=False)
    assert json.loads(text)["images"][0]["width"] == SIZE[1]


def test_the_same_seed_gives_the_same_numbers_whatever_the_threads(folders):
    pairs, _ = image_pairs.pair_folders(folders / "pred", folders / "truth")
    first, again = (restoration.evaluate(pairs, names=["psnr", "ssim"], seed=1, threads=n) for n in (1, 3))
    assert first["metrics"] == again["metrics"] and first["images"] == again["images"]
    assert "seed 1" in first["protocol_interval"]


def test_an_enhancer_scores_as_the_files_it_would_write(folders, photos, tmp_path):
    enhancer = enhancers.get("gamma")
    for index, (picture, _) in enumerate(photos):
        save(tmp_path / "out" / f"{index}.png", enhancer(picture))
    runs = []
    for source, function in ((folders / "pred", enhancer), (tmp_path / "out", None)):
        pairs, _ = image_pairs.pair_folders(source, folders / "truth")
        report = restoration.evaluate(pairs, names=["psnr", "ssim", "niqe"], enhancer=function)
        runs.append([image["scores"] for image in report["images"]])
    assert runs[0] == runs[1]


def test_pictures_equal_to_their_truth_are_counted_not_averaged(folders, photos, tmp_path):
    save(tmp_path / "pred" / "0.png", photos[0][0])
    save(tmp_path / "pred" / "1.png", photos[1][1])
    pairs, _ = image_pairs.pair_folders(tmp_path / "pred", folders / "truth")
    report = restoration.evaluate(pairs, names=["psnr", "ssim"])
    row = report["metrics"][0]
    assert (row["images"], row["infinite"]) == (1, 1)
    assert row["mean"] == pytest.approx(psnr(*photos[0]), abs=1e-3)
    assert row["interval"] is None and row["sd"] is None
    assert report["images"][1]["scores"]["psnr"] is None
    assert report["images"][1]["notes"] == ["psnr: infinite, no error"]
    assert report["metrics"][1]["images"] == 2
    assert "Pictures equal to their truth: 1;" in restoration.table(report)


def test_a_picture_too_small_for_one_metric_has_the_others(tmp_path, rng):
    for folder in ("pred", "truth"):
        save(tmp_path / folder / "a.png", rng.integers(0, 256, (40, 50, 3), np.uint8))
    pairs, _ = image_pairs.pair_folders(tmp_path / "pred", tmp_path / "truth")
    report = restoration.evaluate(pairs, names=["psnr", "niqe"])
    assert report["metrics"][0]["images"] == 1 and report["metrics"][1]["mean"] is None
    assert report["images"][0]["notes"][0].startswith("niqe: NIQE needs at least two blocks")


def test_a_broken_picture_is_named_and_the_rest_scored(folders, photos, tmp_path):
    good = save(tmp_path / "pred" / "0.png", photos[0][0])
    (tmp_path / "pred" / "1.png").write_bytes(save(tmp_path / "x.png", photos[1][0]).read_bytes()[:5000])
    (tmp_path / "pred" / "2.png").write_text("no image")
    pairs, _ = image_pairs.pair_folders(tmp_path / "pred", folders / "truth")
    report = restoration.evaluate(pairs, names=["psnr"])
    assert [image["picture"] for image in report["images"]] == [str(good)]
    assert sorted(row["what"] for row in report["failed"]) == ["1.png", "2.png"]
    assert all("pred" in row["reason"] for row in report["failed"])
    with pytest.raises(ValueError, match="no pair could be scored: "):
        restoration.evaluate(pairs[1:], names=["psnr"])


def test_sixteen_bits_are_rounded_to_eight(tmp_path, photos):
    import cv2

    picture, truth = photos[0]
    save(tmp_path / "truth" / "a.png", truth)
    (tmp_path / "pred").mkdir()
    cv2.imwrite(str(tmp_path / "pred/a.png"), picture[..., ::-1].astype(np.uint16) * 257 + 40)
    pairs, _ = image_pairs.pair_folders(tmp_path / "pred", tmp_path / "truth")
    (row,) = restoration.evaluate(pairs, names=["psnr"])["metrics"]
    assert row["mean"] == pytest.approx(psnr(picture, truth), abs=1e-3)


def test_metrics_are_chosen_by_name_and_absent_ones_say_what_they_need(monkeypatch):
    assert restoration.choose_metrics(["ssim", "psnr"]) == (["psnr", "ssim"], {})
    with pytest.raises(ValueError, match=r"`metrics` must name metrics\. Received: 'pnsr'; did you mean 'psnr'"):
        restoration.choose_metrics(["pnsr"])
    with pytest.raises(ValueError, match="at least one"):
        restoration.choose_metrics([])
    monkeypatch.setitem(__import__("sys").modules, "lpips", None)
    metrics.perceptual._network.cache_clear()
    chosen, left_out = restoration.choose_metrics()
    assert chosen == list(metrics.METRICS) and "pip install 'tfllv[lpips]'" in left_out["lpips"]
    with pytest.raises(ValueError, match="LPIPS needs the extra"):
        restoration.choose_metrics(["lpips"])


def test_the_published_baseline_of_sice_is_reached(shared):
    pairs, missing = image_pairs.pair_table(shared / "data/sice/pairs_val.csv")
    report = restoration.evaluate(pairs, names=["psnr"])
    assert (len(pairs), missing) == (54, [])
    assert report["metrics"][0]["mean"] == pytest.approx(8.72, abs=0.005)
    assert report["images"][0]["scene"] == "5"
    assert "The 54 pictures are of 25 scenes" in restoration.table(report)
