from __future__ import annotations

import pathlib

import cv2
import numpy as np
import pytest

from tfllv.inputs import pairs, pipeline


def write(path: pathlib.Path, pixels: np.ndarray) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels[..., ::-1])
    return path


@pytest.fixture
def layout(tmp_path, rng):
    """LOL's layout: four pairs of 20x20 pictures, the dark one a tenth of the bright one."""
    for index in range(4):
        high = rng.integers(0, 25, (20, 20, 3)).astype(np.uint8) * 10
        write(tmp_path / "our485" / "high" / f"{index}.png", high)
        write(tmp_path / "our485" / "low" / f"{index}.png", high // 10)
    for kind in ("low", "high"):
        write(tmp_path / "eval15" / kind / "9.png", np.zeros((8, 8, 3), np.uint8))
    return tmp_path


def batch(source, **options):
    settings = {"batch_size": 4, "seed": 1, "stop_step": 1, **options}
    return next(iter(pipeline.training_batches(source, **settings).as_numpy_iterator()))


def test_a_folder_and_a_csv_give_the_same_pairs(layout):
    folder = pairs.find_pairs(layout, splits=("train",))
    table = layout / "pairs.csv"
    rows = [f"1,our485/low/{index}.png,our485/high/{index}.png" for index in range(4)]
    table.write_text("\n".join(["scene,low,high", *rows]) + "\n", encoding="utf-8")
    assert pairs.find_pairs(table) == folder
    assert [path.name for path in folder["low"]] == ["0.png", "1.png", "2.png", "3.png"]
    assert len(pairs.find_pairs(layout)["low"]) == 5


def test_what_is_not_complete_is_named(layout):
    with pytest.raises(FileNotFoundError, match="`pairs` must be a csv or folder"):
        pairs.find_pairs(layout / "absent")
    with pytest.raises(ValueError, match="did you mean 'train'"):
        pairs.find_pairs(layout, splits=("trein",))
    with pytest.raises(ValueError, match="must hold a pair"):
        pairs.find_pairs(layout, splits=("val",))
    (layout / "our485" / "high" / "2.png").unlink()
    with pytest.raises(ValueError, match=r"no high picture of the name '2' \(1 problems in all\)"):
        pairs.find_pairs(layout)


def test_pictures_of_two_sizes_are_refused(layout):
    write(layout / "our485" / "low" / "1.png", np.zeros((20, 19, 3), np.uint8))
    with pytest.raises(ValueError, match="pictures of one size; nothing is resized"):
        pairs.PairedSource(pairs.find_pairs(layout))


@pytest.mark.parametrize("augment", [False, True])
def test_a_pair_is_cut_and_flipped_alike(layout, augment):
    source = pairs.PairedSource(pairs.find_pairs(layout, splits=("train",)), size=8, flip=True)
    found = batch(source, augment=augment)
    assert found["low"].shape == found["high"].shape == (4, 8, 8, 3)
    np.testing.assert_allclose(found["high"], found["low"] * 10, rtol=0, atol=1e-6)


def test_half_of_the_examples_are_mirrored(layout):
    columns = pairs.find_pairs(layout, splits=("train",))
    plain = batch(pairs.PairedSource(columns, size=20, fit="resize"), batch_size=64)
    flipped = batch(pairs.PairedSource(columns, size=20, fit="resize", flip=True), batch_size=64)
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(plain["low"], flipped["low"], strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(plain["low"], flipped["low"], strict=True)]
    assert 16 < sum(mirrored) < 48
    assert sum(mirrored) + sum(same) == 64


def test_zoom_enlarges_one_square_of_both_pictures(layout):
    ramp = np.broadcast_to(np.arange(0, 200, 10, dtype=np.uint8)[:, None, None], (20, 20, 3))
    for index in range(4):
        write(layout / "our485" / "low" / f"{index}.png", ramp)
        write(layout / "our485" / "high" / f"{index}.png", ramp.transpose(1, 0, 2))
    source = pairs.PairedSource(pairs.find_pairs(layout, splits=("train",)), size=20, fit="resize", zoom=0.5)
    found = batch(source, batch_size=64)
    low, high = found["low"][:, :, 0, 0] * 25.5, found["high"][:, 0, :, 0] * 25.5  # in pixels of the whole picture
    sides = (low[:, -1] - low[:, 0]) / 19
    np.testing.assert_allclose((high[:, -1] - high[:, 0]) / 19, sides, rtol=0, atol=1e-4)
    assert 0.5 <= sides.min() < 0.6 and 0.9 < sides.max() <= 1.0
    # A straight line stays one: nothing but the square's place and size has changed.
    np.testing.assert_allclose(low, low[:, :1] + sides[:, None] * np.arange(20), rtol=0, atol=1e-3)
    assert np.abs(np.corrcoef(low[:, 0], high[:, 0])[0, 1]) < 0.9  # places are drawn for each axis


def test_exposure_scales_the_dark_picture_alone(layout):
    columns = pairs.find_pairs(layout, splits=("train",))
    plain = batch(pairs.PairedSource(columns, size=20, fit="resize"), batch_size=32)
    scaled = batch(pairs.PairedSource(columns, size=20, fit="resize", exposure=1.0), batch_size=32)
    np.testing.assert_array_equal(scaled["high"], plain["high"])
    ratios = scaled["low"].mean((1, 2, 3)) / plain["low"].mean((1, 2, 3))
    # Dithering keeps the mean of 1,200 values within some hundredths.
    assert np.exp(-1) - 0.05 < ratios.min() < 0.6 and 1.3 < ratios.max() < np.exp(0.5) + 0.05
    assert np.abs(scaled["low"] * 255 - np.round(scaled["low"] * 255)).max() < 1e-3


def test_mixup_mixes_picture_and_truth_by_one_share(layout):
    columns = pairs.find_pairs(layout, splits=("train",))
    plain = batch(pairs.PairedSource(columns, size=20, fit="resize"))
    mixed = batch(pairs.PairedSource(columns, size=20, fit="resize", mixup=1.2))
    np.testing.assert_allclose(mixed["high"], mixed["low"] * 10, rtol=0, atol=1e-5)
    assert mixed["low"].dtype == np.float32
    changed = [not np.allclose(a, b) for a, b in zip(plain["high"], mixed["high"], strict=True)]
    assert any(changed)
    pictures = batch(pairs.PairedSource(columns, size=20, fit="resize"), batch_size=4)["high"].reshape(4, -1)
    for picture in mixed["high"].reshape(4, -1):
        shares = np.linalg.lstsq(pictures.T, picture, rcond=None)[0]
        assert shares.sum() == pytest.approx(1, abs=1e-3)
        assert (np.abs(shares) > 1e-3).sum() <= 2


def test_mixup_starts_after_its_epochs(layout):
    columns = pairs.find_pairs(layout, splits=("train",))
    plain = pairs.PairedSource(columns, size=20, fit="resize")
    late = pairs.PairedSource(columns, size=20, fit="resize", mixup=1.2, mixup_after=1)
    np.testing.assert_array_equal(batch(late)["high"], batch(plain)["high"])
    later = {"start_step": 1, "stop_step": 2}
    assert np.any(batch(late, **later)["high"] != batch(plain, **later)["high"])


@pytest.mark.parametrize("kind", ["mixup", "darken"])
def test_examples_do_not_depend_on_how_the_work_is_shared(layout, kind):
    columns = pairs.find_pairs(layout, splits=("train",))

    def make():
        if kind == "darken":
            return pairs.DarkenedSource(columns["high"], "photographic", size=8, flip=True)
        return pairs.PairedSource(columns, size=8, flip=True, mixup=1.2)

    whole = batch(make(), start_step=3, stop_step=4)
    parts = [batch(make(), start_step=3, stop_step=4, shard=(index, 2)) for index in range(2)]
    for key in ("low", "high"):
        np.testing.assert_array_equal(whole[key], np.concatenate([part[key] for part in parts]))


def test_darkened_pairs_are_made_anew_for_training_and_stay_for_validation(layout):
    paths = pairs.find_pairs(layout, splits=("train",))["high"]
    source = pairs.DarkenedSource(paths, "photographic", size=8)
    first, second = batch(source), batch(source, start_step=1, stop_step=2)
    assert set(first) == {"low", "high", "name"}
    assert first["low"].mean() < 0.3 * first["high"].mean()
    assert np.any(first["low"] != second["low"])
    dark = source.read_centre("low", 2)
    assert dark.shape == source.read_centre("high", 2).shape == (20, 20, 3)
    np.testing.assert_array_equal(dark, pairs.DarkenedSource(paths, "photographic").read_centre("low", 2))
    with pytest.raises(ValueError, match="photographic"):
        pairs.DarkenedSource(paths, "photografic")


def test_validation_sees_whole_pictures(layout):
    source = pairs.PairedSource(pairs.find_pairs(layout))
    shapes = {source.read_centre(key, index).shape for key in ("low", "high") for index in range(5)}
    assert shapes == {(20, 20, 3), (8, 8, 3)}
