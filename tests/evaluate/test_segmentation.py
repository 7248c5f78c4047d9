from __future__ import annotations

import numpy as np
import pytest

from tfllv.evaluate import segmentation


@pytest.fixture
def scenes():
    """Two 4x4 scenes of two classes; the first has a void pixel."""
    first = np.array([[0, 0, 1, 1]] * 4, np.int16)
    first[0, 0] = 255
    return [first, np.zeros((4, 4), np.int16)]


def read_of(scenes):
    return lambda index: (np.zeros((4, 4, 3), np.uint8), scenes[index])


def test_figures_are_of_all_pixels_together(scenes):
    report = segmentation.evaluate([0, 1], read_of(scenes), lambda picture: np.zeros((4, 4), np.uint8), ["a", "b"])
    # 31 pixels count, 23 of them class 0.
    assert report["pixel_accuracy"] == pytest.approx(23 / 31)
    assert report["classes"][0] == {"name": "a", "iou": pytest.approx(23 / 31), "pixels": 23}
    assert report["classes"][1]["iou"] == 0
    assert report["miou"] == pytest.approx(23 / 31 / 2)
    # All of it predicted as the most frequent class: the same here.
    assert report["most_frequent"] == {
        "miou": pytest.approx(report["miou"]),
        "pixel_accuracy": pytest.approx(report["pixel_accuracy"]),
    }


def test_a_perfect_map_scores_one_and_void_does_not_count(scenes):
    perfect = iter(np.where(scene == 255, 1, scene) for scene in scenes)
    report = segmentation.evaluate([0, 1], read_of(scenes), lambda picture: next(perfect), ["a", "b"])
    assert report["miou"] == report["pixel_accuracy"] == 1


def test_the_page_shows_evenly_spread_pictures_and_escapes_names(scenes):
    report = segmentation.evaluate(
        [0, 1] * 10,
        read_of(scenes),
        lambda picture: np.zeros((4, 4), np.uint8),
        ["<a>", "b"],
        draw=lambda picture, classes: b"png" + bytes([int(classes.min()) & 255]),
    )
    assert [row[0] for row in report["shown"]] == np.linspace(0, 19, 8).round().astype(int).tolist()
    page = segmentation.render(report, title="t & t", labels=[f"{n}.png" for n in range(20)])
    assert "<td>&lt;a&gt;</td>" in page
    assert "t &amp; t" in page
    assert page.count("<img") == 24
    assert 'src="data:image/png;base64,' in page
    assert "http" not in page
