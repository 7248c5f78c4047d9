from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from tfllv.inputs import noisy_pairs, pipeline


@pytest.fixture
def columns(tmp_path, rng):
    """Three pairs 40x32 whose dark pictures are a tenth of the bright ones."""
    found = {"low": [], "high": []}
    for index in range(3):
        high = rng.integers(100, 250, (32, 40, 3)).astype(np.uint8)
        for kind, pixels in (("low", high // 10), ("high", high)):
            (tmp_path / kind).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / kind / f"{index}.png"), pixels)
            found[kind].append(tmp_path / kind / f"{index}.png")
    return found


def batch_of(source, **options):
    return next(iter(pipeline.training_batches(source, batch_size=64, seed=1, stop_step=1, **options)))


def test_an_example_has_noise_time_and_the_level_of_its_whole_picture(columns):
    source = noisy_pairs.NoisyPairs(columns, size=16, times=1000)
    batch = batch_of(source)
    assert batch["noise"].shape == (64, 16, 16, 3) and batch["time"].shape == (64,) and batch["level"].shape == (64,)
    noise, time = batch["noise"].numpy(), batch["time"].numpy()
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    assert time.min() >= 0 and time.max() < 1000 and len(set(time.tolist())) > 50
    levels = [source.read("low", index).mean() / 255 for index in range(3)]
    assert {round(float(level), 5) for level in batch["level"]} == {round(float(level), 5) for level in levels}


def test_squares_of_a_pair_are_cut_alike_and_shrunk_by_their_mean(columns):
    batch = batch_of(noisy_pairs.NoisyPairs(columns, size=16, times=10, crop_from=16, crop_to=32, flip=True))
    low, high = batch["low"].numpy(), batch["high"].numpy()
    assert low.shape == high.shape == (64, 16, 16, 3)
    assert np.abs(low * 10 - high).max() < 16 / 255  # what the division by 10 cuts off, and rounding
    # Larger squares are smoother after shrinking.
    spread = high.std(axis=(1, 2, 3))
    assert spread.min() < 0.8 * spread.max()


def test_exposure_scales_the_level_with_the_picture(columns):
    plain = batch_of(noisy_pairs.NoisyPairs(columns, size=16, times=10))
    scaled = batch_of(noisy_pairs.NoisyPairs(columns, size=16, times=10, exposure=1.0))
    before, after = (each["low"].numpy().mean(axis=(1, 2, 3)) for each in (plain, scaled))
    np.testing.assert_allclose(scaled["level"] / plain["level"].numpy(), after / before, rtol=1e-4)
    assert np.ptp(after / before) > 0.3


def test_a_cast_colours_both_pictures_of_a_pair_alike_and_scales_the_level(columns):
    plain = batch_of(noisy_pairs.NoisyPairs(columns, size=16, times=10))
    coloured = batch_of(noisy_pairs.NoisyPairs(columns, size=16, times=10, cast=0.4))
    ratios = {
        key: coloured[key].numpy().mean(axis=(1, 2)) / plain[key].numpy().mean(axis=(1, 2)) for key in ("low", "high")
    }
    red, green, blue = np.log(ratios["low"]).T
    assert 0.2 < np.abs(red).max() < 0.46 and np.abs(green).max() < 0.11
    assert np.corrcoef(red, blue)[0, 1] < -0.9
    assert np.median(np.abs(red)) < 0.7 * np.abs(red).mean(), "most lights are nearly white"
    # The bright pictures are cut off at 1; the dark ones are far from it.
    unclipped = coloured["high"].numpy().max(axis=(1, 2)) < 1
    assert unclipped.mean() > 0.3
    np.testing.assert_allclose(ratios["low"][unclipped], ratios["high"][unclipped], rtol=1e-3)
    levels = [each["low"].numpy().mean(axis=(1, 2, 3)) for each in (plain, coloured)]
    np.testing.assert_allclose(coloured["level"] / plain["level"].numpy(), levels[1] / levels[0], rtol=1e-4)


def test_a_perturbation_has_low_frequencies_alone_and_leaves_noise_and_time_as_they_were(columns):
    plain = batch_of(noisy_pairs.NoisyPairs(columns, size=16, times=10))
    moved = batch_of(noisy_pairs.NoisyPairs(columns, size=16, times=10, perturbation=0.5))
    assert "perturbation" not in plain
    for key in ("noise", "time", "low", "high"):
        assert np.array_equal(plain[key], moved[key])
    fields = moved["perturbation"].numpy()
    assert fields.shape == moved["noise"].shape
    # Four fields; the finer ones lose some of their variance between their places.
    assert 0.25 * 2 < fields.var() < 0.25 * 4.5
    assert abs(fields.mean()) < 0.2
    # Neighbours are alike: of white noise, this difference would have twice the variance.
    assert np.diff(fields, axis=1).var() < 0.4 * fields.var()
    assert abs(np.corrcoef(fields.reshape(-1, 3).T)[0, 1]) < 0.4


def test_validation_sees_the_middle_square_shrunk(columns):
    source = noisy_pairs.NoisyPairs(columns, size=16, times=10)
    whole = source.read("high", 1)
    expected = whole[:, 4:36].reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    assert np.abs(source.read_centre("high", 1) - expected).max() <= 1


def test_pictures_smaller_than_an_example_are_enlarged(columns):
    assert batch_of(noisy_pairs.NoisyPairs(columns, size=48, times=10))["low"].shape == (64, 48, 48, 3)


def test_names_are_read_from_both_kinds_of_annotation(tmp_path):
    for name, content in (("a", {"filename": ["x.jpg"]}), ("b", {"images": [{"file_name": "x.jpg", "id": 1}]})):
        (tmp_path / name).write_text(json.dumps(content))
        assert noisy_pairs.read_names(tmp_path / name) == ["x.jpg"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"filename": []}', '{"filename": [1]}', '{"images": [{}]}'])
def test_a_wrong_annotation_is_one_line_that_names_it(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"a\.json: ") as error:
        noisy_pairs.read_names(tmp_path / "a.json")
    assert "\n" not in str(error.value)


def test_a_missing_partner_is_named_with_the_way_out(columns, tmp_path):
    (tmp_path / "low" / "1.png").unlink()
    with pytest.raises(ValueError, match=r"no pair '1' .*\(1 of 3 missing\); add them, or name those to take"):
        noisy_pairs.find_named_pairs(tmp_path / "high", tmp_path / "low")
    (tmp_path / "a.json").write_text(json.dumps({"filename": ["0.png", "2.png"]}))
    found = noisy_pairs.find_named_pairs(tmp_path / "high", tmp_path / "low", annotation=tmp_path / "a.json")
    assert [path.name for path in found["high"]] == ["0.png", "2.png"]


def test_folders_that_do_not_exist_or_are_empty_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="`input_image_dir` must be a folder"):
        noisy_pairs.find_named_pairs(tmp_path / "absent", tmp_path)
    with pytest.raises(ValueError, match="`input_image_dir` must hold pictures"):
        noisy_pairs.find_named_pairs(tmp_path / "empty", tmp_path / "empty")


def test_pictures_of_a_pair_that_differ_in_size_are_refused_by_name(columns, tmp_path):
    cv2.imwrite(str(tmp_path / "low" / "1.png"), np.zeros((30, 40, 3), np.uint8))
    with pytest.raises(ValueError, match=r"one size; nothing is resized. Received: .*1\.png 40x30"):
        noisy_pairs.NoisyPairs(columns, size=16, times=10)
