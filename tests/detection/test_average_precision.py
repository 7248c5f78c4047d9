"""Average precision of parts and resamples, from one matching."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tfllv.detection import average_precision, coco_metrics


@pytest.fixture(scope="module")
def case(synthetic):
    """(truth, detections, matches of each class): imperfect, with crowds."""
    made = synthetic.make_truth(30, crowd=0.1)
    found = synthetic.detect(made, shift=0.25, miss=0.2, false=3)
    return made, found, coco_metrics.evaluate(made, found, backend="pycocotools").matches


def test_all_pictures_once_give_the_ap_of_pycocotools_to_the_last_bit(case, pycocotools):
    made, found, matches = case
    stats = pycocotools(made, found)
    assert average_precision.mean_precision(matches) == (stats[0], stats[1])
    once = np.ones((1, len(made.images)), np.int32)
    drawn = [average_precision.resampled_precision(each, once) for each in matches]
    assert average_precision.mean_over_classes(drawn)[:, 0] == pytest.approx(stats[:2], abs=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_a_part_of_the_pictures_scores_as_in_pycocotools(case, pycocotools, seed):
    made, found, matches = case
    part = np.random.default_rng(seed).random(len(made.images)) < 0.4
    stats = pycocotools(made, found, only=part)
    assert average_precision.mean_precision([each.part(part) for each in matches]) == (stats[0], stats[1])


@pytest.mark.parametrize("seed", range(5))
def test_a_resample_scores_as_pycocotools_scores_the_repeated_pictures(case, pycocotools, seed):
    made, found, matches = case
    weights = average_precision.resample_weights(len(made.images), 1, seed)
    truths, others = [], []
    for index, count in enumerate(weights[0]):
        for copy in range(count):
            truths.append(dataclasses.replace(made.images[index], file=f"{index}-{copy}"))
            others.append(dataclasses.replace(found.images[index], file=f"{index}-{copy}"))
    repeated = dataclasses.replace(made, images=tuple(truths))
    stats = pycocotools(repeated, dataclasses.replace(found, images=tuple(others)))
    drawn = [average_precision.resampled_precision(each, weights) for each in matches]
    assert average_precision.mean_over_classes(drawn)[:, 0] == pytest.approx(stats[:2], abs=1e-12)


def test_blocks_of_resamples_do_not_change_the_result(case, monkeypatch):
    _, _, matches = case
    weights = average_precision.resample_weights(30, 20, 0)
    whole = average_precision.resampled_precision(matches[0], weights)
    monkeypatch.setattr(average_precision, "_BLOCK", 1)
    assert average_precision.resampled_precision(matches[0], weights) == pytest.approx(whole, abs=1e-14)


def test_every_resample_draws_as_many_pictures_as_there_are():
    weights = average_precision.resample_weights(30, 200, 3)
    assert weights.shape == (200, 30) and (weights.sum(axis=1) == 30).all()
    assert weights.mean(axis=0) == pytest.approx(1, abs=0.4)
    assert np.array_equal(weights, average_precision.resample_weights(30, 200, 3))
    assert not np.array_equal(weights, average_precision.resample_weights(30, 200, 4))


def test_a_resample_without_objects_has_no_precision(case):
    _, _, matches = case
    nothing = np.zeros((2, 30), np.int32)
    nothing[1, int(np.flatnonzero(matches[0].truths)[0])] = 1
    drawn = average_precision.resampled_precision(matches[0], nothing)
    assert np.isnan(drawn[:, 0]).all() and np.isfinite(drawn[:, 1]).all()


def test_a_class_that_is_never_found_scores_zero_and_one_without_objects_nothing(synthetic):
    made = synthetic.make_truth()
    missed = coco_metrics.evaluate(made, synthetic.detect(made, miss=1.0), backend="pycocotools").matches
    weights = average_precision.resample_weights(12, 5, 0)
    assert average_precision.mean_precision(missed) == (0, 0)
    assert (average_precision.resampled_precision(missed[0], weights) == 0).all()
    absent = dataclasses.replace(missed[0], truths=np.zeros(12, int))
    assert average_precision.mean_precision([absent]) is None
    assert np.isnan(average_precision.resampled_precision(absent, weights)).all()


def test_the_mean_over_classes_leaves_out_those_without_objects():
    one, two = np.array([[0.2, np.nan], [0.4, np.nan]]), np.array([[0.4, np.nan], [np.nan, np.nan]])
    mean = average_precision.mean_over_classes([one, two])
    assert mean[:, 0] == pytest.approx([0.3, 0.4]) and np.isnan(mean[:, 1]).all()


def test_the_interval_turns_the_resamples_that_have_a_value_about_the_estimate():
    values = np.append(np.arange(101) / 100, [np.nan] * 50)
    assert average_precision.interval(values, 0.6) == pytest.approx((1.2 - 0.975, 1.2 - 0.025))
    assert average_precision.interval(values, 0.5, level=0.5) == pytest.approx((0.25, 0.75))
    assert average_precision.interval(np.append(values, [np.nan] * 60), 0.5) is None


@pytest.mark.parametrize("seed", range(3))
def test_exchanged_pictures_score_as_in_pycocotools(case, synthetic, pycocotools, seed):
    made, found, matches = case
    other = synthetic.detect(made, seed=77, shift=0.1, miss=0.4, false=1)
    others = coco_metrics.evaluate(made, other, backend="pycocotools").matches
    swaps = np.random.default_rng(seed).random((1, 30)) < 0.5
    mixed = [
        dataclasses.replace(
            found, images=tuple(b if s else a for a, b, s in zip(one.images, two.images, swaps[0], strict=True))
        )
        for one, two in ((found, other), (other, found))
    ]
    before, after = (pycocotools(made, one)[:2] for one in mixed)
    swapped = average_precision.swapped_differences(matches, others, swaps)[:, 0]
    assert swapped == pytest.approx(after - before, abs=1e-12)


@pytest.mark.parametrize(
    ("differences", "difference", "expected"),
    [([0.1] * 99, 0.2, 1 / 100), ([0.1, -0.1] * 49 + [0.3], -0.2, 2 / 100), ([0.0] * 99, 0.0, 1.0)],
)
def test_the_p_value_counts_differences_as_large_in_either_direction(differences, difference, expected):
    assert average_precision.p_value(np.array(differences), difference) == pytest.approx(expected)


def test_holm_adjusts_by_rank_and_never_below_a_smaller_one():
    assert average_precision.adjust([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert average_precision.adjust([0.9, 0.8]) == [1.0, 1.0]
    assert average_precision.adjust([]) == []
