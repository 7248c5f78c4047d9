from __future__ import annotations

import numpy as np
import pytest

from tfllv.evaluate import bootstrap, probe
from tfllv.evaluate.labelled import LabelledSet


def make_set(labels, *, classes=3, splits=(), groups=None, lighting=None):
    count = len(labels)
    return LabelledSet(
        tuple(range(count)),
        np.asarray(labels),
        tuple("abcdefgh"[:classes]),
        np.array(splits, dtype=str),
        groups,
        np.array(lighting if lighting is not None else [""] * count, dtype=str),
    )


@pytest.fixture(scope="module")
def separable():
    """Three classes whose features lie apart, with noise that overlaps a little."""
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 3
    return (np.eye(3, 10)[labels] * 3 + rng.normal(size=(150, 10))).astype(np.float32), labels


def test_folds_share_each_class_and_never_divide_a_group():
    labels = np.repeat([0, 1], [60, 40])
    groups = np.arange(100) // 4
    fold = probe.assign_folds(labels, groups, seed=3)
    for group in range(25):
        assert len(set(fold[groups == group])) == 1
    for k in range(probe.FOLDS):
        assert (labels[fold == k] == 0).sum() == 12
        assert (labels[fold == k] == 1).sum() == 8


def test_every_picture_is_scored_once_and_no_part_overlaps():
    found = probe.parts(make_set(np.arange(50) % 3), "five_fold")
    assert sorted(np.concatenate([part.score for part in found])) == list(range(50))
    for part in found:
        assert sorted(np.concatenate([part.train, part.choose, part.score])) == list(range(50))


def test_official_takes_the_splits_and_says_what_is_missing():
    splits = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    (part,) = probe.parts(make_set(np.arange(12) % 3, splits=splits), "official")
    assert part.train.tolist() == list(range(6))
    assert part.score.tolist() == [9, 10, 11]
    with pytest.raises(ValueError, match=r"official needs pictures of all three splits.*use five_fold"):
        probe.parts(make_set(np.arange(12) % 3), "official")
    with pytest.raises(ValueError, match="`protocol` must be one of official, five_fold"):
        probe.parts(make_set(np.arange(12) % 3), "six_fold")


def test_too_few_groups_are_refused():
    with pytest.raises(ValueError, match=r"needs 5 pictures or groups at least. Received: 2"):
        probe.assign_folds(np.arange(8) % 2, np.arange(8) // 4)


def test_the_fit_is_the_minimum_of_the_penalised_cross_entropy(separable):
    features, labels = separable
    weights = probe.fit(features, labels, 3, 0.1, None)

    def loss(w):
        scores = features.astype(np.float64) @ w[:-1] + w[-1]
        scores -= scores.max(1, keepdims=True)
        log = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        return -log[np.arange(len(labels)), labels].mean() + 0.05 * (w[:-1] ** 2).sum()

    rng = np.random.default_rng(1)
    for _ in range(20):
        assert loss(weights) < loss(weights + rng.normal(size=weights.shape) * 0.02)


def test_turning_into_the_space_of_few_pictures_changes_no_prediction(separable):
    features, labels = separable
    wide = np.concatenate([features, np.random.default_rng(2).normal(size=(150, 60))], 1).astype(np.float32)
    train = np.arange(40)
    turned = probe.standardise(wide, train)
    assert turned.shape == (150, 40)
    mean, deviation = wide[train].mean(0), wide[train].std(0)
    plain = ((wide - mean) / deviation).astype(np.float32)
    scores = [
        table @ (weights := probe.fit(table[train], labels[train], 3, 1.0, None))[:-1] + weights[-1]
        for table in (turned, plain)
    ]
    np.testing.assert_allclose(scores[0], scores[1], atol=2e-2)
    assert (scores[0].argmax(1) == scores[1].argmax(1)).mean() > 0.97


def test_a_probe_tells_good_features_from_noise(separable):
    features, labels = separable
    data = make_set(labels, lighting=["Low", "Strong"] * 75)
    divided = probe.parts(data, "five_fold")
    noise = np.random.default_rng(5).normal(size=features.shape).astype(np.float32)
    report = probe.report(
        {"noise": probe.predict(noise, data, divided)[0], "good": probe.predict(features, data, divided)[0]}, data
    )
    noise_row, good_row = report["encoders"]["noise"], report["encoders"]["good"]
    assert good_row["top1"]["value"] > 0.85
    assert noise_row["top1"]["interval"][1] < good_row["top1"]["interval"][0]
    assert good_row["top1"]["images"] == 150
    assert good_row["top5"] is None  # three classes
    assert set(good_row["lighting"]) == {"Low", "Strong"}
    (paired,) = report["paired"]
    assert paired["against"] == "noise"
    assert paired["p"] < 0.001
    assert paired["interval"][0] > 0


def test_ties_count_against_the_encoder():
    data = make_set(np.zeros(10, int), classes=8)
    report = probe.report({"flat": np.zeros((10, 8), np.float32)}, data)
    assert report["encoders"]["flat"]["top1"]["value"] == 0
    assert report["encoders"]["flat"]["top5"]["value"] == 0


def test_groups_widen_the_interval_and_the_p_value():
    values = np.repeat(np.random.default_rng(0).normal(0.3, 1, 12), 20)
    groups = np.repeat(np.arange(12), 20)
    alone, together = bootstrap.mean_interval(values), bootstrap.mean_interval(values, groups=groups)
    assert together[1] - together[0] > 3 * (alone[1] - alone[0])
    assert bootstrap.sign_flip_p(values) < 0.01 < bootstrap.sign_flip_p(values, groups=groups)


def test_the_sign_flip_test_is_exact_where_it_can_be_counted():
    # Of the 2^5 signs of five equal differences, two are as far from zero as all of one sign.
    p = bootstrap.sign_flip_p(np.ones(5), resamples=100_000)
    assert abs(p - 2 / 32) < 0.004
    assert bootstrap.sign_flip_p(np.zeros(9)) == 1
    with pytest.raises(ValueError, match="`differences` must be"):
        bootstrap.sign_flip_p(np.array([np.nan]))
