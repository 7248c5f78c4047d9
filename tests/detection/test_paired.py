"""One detector on two versions of the same pictures."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from tfllv.detection import coco_metrics, paired


@pytest.fixture(scope="module")
def case(synthetic):
    """(truth of 80 pictures, name -> detections: plain, better by half its misses, worse, the same)."""
    made = synthetic.make_truth(80)
    plain = synthetic.detect(made, miss=0.4, shift=0.1, false=1)
    versions = {
        "better": synthetic.detect(made, miss=0.1, shift=0.1, false=1),
        "worse": synthetic.detect(made, miss=0.7, shift=0.1, false=1),
        "same": plain,
    }
    return made, plain, versions


@pytest.fixture(scope="module")
def rows(case):
    made, plain, versions = case
    return paired.compare_methods(made, plain, versions, resamples=400)


def of(rows, method, light=None):
    return next(row for row in rows if row["method"] == method and row["lighting"] == light)


def test_the_difference_is_that_of_coco(case, rows):
    made, plain, versions = case
    before, after = (coco_metrics.evaluate(made, side).named() for side in (plain, versions["better"]))
    row = of(rows[0], "better")
    for key in ("AP", "AP50"):
        assert (row[key]["before"], row[key]["after"]) == (before[key], after[key])
        assert row[key]["difference"] == after[key] - before[key]


def test_clear_changes_are_told_by_direction_and_no_change_is_not(rows):
    assert [of(rows[0], name)["AP"]["verdict"] for name in ("better", "worse", "same")] == ["helps", "hurts", "unclear"]
    low, high = of(rows[0], "better")["AP"]["interval"]
    assert 0 < low < of(rows[0], "better")["AP"]["difference"] < high
    same = of(rows[0], "same")["AP"]
    assert same["difference"] == 0 and same["interval"] == [0, 0] and same["p"] == 1


def test_every_light_is_tested_and_p_values_only_grow_by_the_adjustment(rows):
    assert len(rows[0]) == 3 * 11
    assert all(row["AP"]["p"] <= row["AP"]["p_adjusted"] <= 1 for row in rows[0])
    assert any(row["AP"]["p"] < row["AP"]["p_adjusted"] < 1 for row in rows[0] if row["lighting"])


def test_the_answers_say_it_in_words(rows):
    better, worse, same = rows[1]
    assert better.startswith("better: enhancing helps. AP ") and "points, 95% interval +" in better
    assert worse.startswith("worse: enhancing hurts. AP ") and same.startswith(
        "same: no effect can be told from chance"
    )


def test_pairing_tells_changes_apart_that_the_spread_between_pictures_would_hide(synthetic):
    """All objects of some pictures found: the intervals of both sides overlap, that of the change is clear."""
    made = synthetic.make_truth(60)
    plain = synthetic.detect(made, miss=0.5, false=0)
    perfect = synthetic.detect(made)
    images = [
        better if index % 4 == 0 else image
        for index, (image, better) in enumerate(zip(plain.images, perfect.images, strict=True))
    ]
    sides = [paired.measure(made, side) for side in (plain, dataclasses.replace(plain, images=tuple(images)))]
    row = paired.difference(*sides, None)["AP"]
    assert row["interval"][0] > 0 and row["p"] < 0.05
    ends = [np.quantile(side.drawn[None][0], [0.025, 0.975]) for side in sides]
    assert ends[0][1] > ends[1][0]


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_the_level_says(synthetic):
    """Two detectors that miss at random alike: of 40 sets of ten pictures, few may be told apart at .05."""
    alarms = 0
    for seed in range(40):
        made = synthetic.make_truth(10, seed=seed)
        sides = [
            paired.measure(made, synthetic.detect(made, seed=10 * seed + k, miss=0.3, false=1), resamples=200)
            for k in (1, 2)
        ]
        alarms += paired.difference(*sides, None)["AP"]["p"] < 0.05
    assert alarms <= 6  # 2 are expected; 7 or more come by chance once in 300 runs, and the runs are fixed


def test_detections_of_other_pictures_are_refused(case):
    made, plain, _ = case
    other = dataclasses.replace(plain, images=plain.images[1:])
    with pytest.raises(ValueError, match="must have an entry for each of the 80 pictures"):
        paired.compare_methods(made, plain, {"x": other}, resamples=5)
    with pytest.raises(ValueError, match="`resamples` must be >= 1"):
        paired.measure(made, plain, resamples=0)


def write(folder, names, level=7):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.full((20, 30, 3), level, np.uint8))


def test_folders_are_paired_by_name_without_ending(synthetic, tmp_path):
    made = synthetic.make_truth(4)
    write(tmp_path / "n", ["2015_00000.png", "2015_00001.jpg", "2015_00002.png", "x.png"], 200)
    write(tmp_path / "l" / "sub", ["2015_00000.jpg", "2015_00002.png"], 5)
    normal, low, notes = paired.pair_folders(made, tmp_path / "n", tmp_path / "l")
    assert [image.file for image in normal.images] == ["2015_00000.jpg", "2015_00002.jpg"]
    assert [int(side.images[1].pixels()[0, 0, 0]) for side in (normal, low)] == [200, 5]
    assert notes == ["2 pictures are not in both folders and are left out"]


def test_folders_that_share_nothing_or_double_a_name_are_refused(synthetic, tmp_path):
    made = synthetic.make_truth(2)
    write(tmp_path / "n", ["2015_00000.png"])
    write(tmp_path / "l", ["2015_00001.png"])
    with pytest.raises(ValueError, match="none is in both"):
        paired.pair_folders(made, tmp_path / "n", tmp_path / "l")
    write(tmp_path / "l" / "a", ["2015_00001.jpg"])
    with pytest.raises(ValueError, match="--low_light_dir must hold each name once"):
        paired.pair_folders(made, tmp_path / "n", tmp_path / "l")
    with pytest.raises(FileNotFoundError, match="--normal_light_dir"):
        paired.pair_folders(made, tmp_path / "absent", tmp_path / "l")


def test_the_drop_from_normal_to_low_light_is_measured_on_the_same_pictures(case):
    made, plain, versions = case
    found = paired.compare_lights(made, versions["better"], plain, resamples=500)
    assert found["pictures"] == 80 and found["AP50"]["difference"] < 0
    assert found["AP50"]["interval"][1] < 0
    text = paired.text({"comparison": found})
    drop = 100 * (found["AP50"]["before"] - found["AP50"]["after"])
    assert "80 pictures in both" in text and f"drop {drop:.1f}" in text
    assert paired.text({}) == ""


def test_pictures_without_objects_have_no_drop(synthetic):
    made = synthetic.make_truth(3, objects=0)
    found = synthetic.detect(made, false=1)
    with pytest.raises(ValueError, match="must hold objects"):
        paired.compare_lights(made, found, found, resamples=5)
