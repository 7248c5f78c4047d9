from __future__ import annotations

import pathlib

import cv2
import numpy as np
import pytest

from tfllv.records import near_duplicates, pairs, schema
from tfllv.records.problems import Report, Where


@pytest.fixture
def lol(tmp_path, write_picture):
    root = tmp_path / "lol"
    for split, names in (("our485", "abc"), ("eval15", "de")):
        for index, name in enumerate(names):
            write_picture(root / split / "low" / f"{name}.png", 40, 30, seed=ord(name) + 50)
            write_picture(root / split / "high" / f"{name}.png", 40, 30, seed=ord(name) + index)
    return root


def test_lols_layout_gives_pairs_by_name_and_split(lol):
    report = Report()
    found = pairs.read_layout(lol, report)
    assert [(pair.key, pair.split) for pair in found] == [
        ("eval15/d", "test"),
        ("eval15/e", "test"),
        ("our485/a", "train"),
        ("our485/b", "train"),
        ("our485/c", "train"),
    ]
    assert all(pair.low.replace("/low/", "/high/") == pair.high for pair in found) and len(report) == 0


def test_the_second_layout_of_lol_and_capital_letters(tmp_path, write_picture):
    for split in ("Train", "Test"):
        write_picture(tmp_path / split / "Low" / "low00001.png")
        write_picture(tmp_path / split / "Normal" / "normal00001.png")
    found = pairs.read_layout(tmp_path, Report())
    assert [(pair.key, pair.split) for pair in found] == [("Test/00001", "test"), ("Train/00001", "train")]


def test_what_has_no_partner_is_reported(lol, write_picture):
    write_picture(lol / "our485" / "low" / "x.png")
    write_picture(lol / "our485" / "high" / "a.jpg")
    (lol / "eval15" / "high").rename(lol / "eval15" / "hidden")
    report = Report()
    assert len(pairs.read_layout(lol, report)) == 3
    assert report.kinds() == {"folder skipped": 1, "pair skipped: name": 1, "pair skipped: no partner": 1}


def test_wrong_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`data_dir`"):
        pairs.read_layout(tmp_path, Report())
    with pytest.raises(ValueError, match="`data_dir`"):
        pairs.read_layout(tmp_path / "absent", Report())
    with pytest.raises(ValueError, match="`low_dir`"):
        pairs.read_folders(tmp_path / "a", tmp_path / "b", Report())


def test_a_csv_of_pairs(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("scene,low,high\n1,a.jpg,z.jpg\n1,b.jpg,z.jpg\n2,,z.jpg\n2,b.jpg,y.jpg\n2,c.jpg\n")
    report = Report()
    found = pairs.read_pairs_csv(path, None, report, split="val")
    assert [(pair.key, pair.scene, pair.split) for pair in found] == [("a.jpg", "1", "val"), ("b.jpg", "1", "val")]
    assert found[0].high == str(tmp_path / "z.jpg") and str(found[1].where) == f"{path}:3"
    assert [str(problem).removeprefix(f"{path}:").split(": ")[0] for problem in report] == ["4", "5", "6"]


def test_scenes_are_never_split(lol):
    where = Where("x")
    many = [pairs.Pair(f"{scene}-{n}", "", "", where, scene=str(scene)) for scene in range(50) for n in range(3)]
    for seed in range(3):
        done = pairs.split_by_scene(many, val_fraction=0.2, seed=seed)
        sides = [{pair.scene for pair in each} for each in pairs.by_split(done).values()]
        assert not sides[0] & sides[1] and [len(side) for side in sides] == [40, 10]
    first, second = (pairs.split_by_scene(many, val_fraction=0.2, seed=seed) for seed in (0, 1))
    assert first != second and first == pairs.split_by_scene(many, val_fraction=0.2)
    fixed = pairs.read_layout(lol, Report())
    assert pairs.split_by_scene(fixed, val_fraction=0.5) == fixed
    with pytest.raises(ValueError, match="`val_fraction`"):
        pairs.split_by_scene(many, val_fraction=1)


def test_a_record_holds_both_pictures_as_they_are(lol):
    pair = pairs.split_by_scene(pairs.read_layout(lol, Report()), val_fraction=0)[0]
    built = pairs.PairBuilder()(pair)
    record = schema.parse(built.record)
    assert record[schema.ENCODED] == [pathlib.Path(pair.low).read_bytes()]
    assert record[schema.PAIRED_ENCODED] == [pathlib.Path(pair.high).read_bytes()]
    assert record[schema.FORMAT] == record[schema.PAIRED_FORMAT] == [b"png"]
    assert record[schema.HEIGHT] == [30] and record[schema.SPLIT] == [b"test"] and not built.problems


def test_sizes_that_differ_and_broken_pictures_skip_the_pair(lol, write_picture):
    pair = pairs.read_layout(lol, Report())[0]
    write_picture(lol / "eval15" / "high" / "d.png", 41, 30)
    built = pairs.PairBuilder()(pair)
    assert built.record is None and "low has 40x30 pixels, high 41x30" in str(built.problems[0])
    (lol / "eval15" / "low" / "d.png").write_bytes(b"x")
    (lol / "eval15" / "high" / "d.png").unlink()
    built = pairs.PairBuilder()(pair)
    assert built.record is None and [problem.field for problem in built.problems] == ["low", "high"]


def copy_changed(source, target, change):
    target.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(target), change(cv2.imread(str(source))))


@pytest.mark.parametrize(
    "change",
    [
        lambda image: (image * 0.6).astype(np.uint8),
        lambda image: cv2.resize(image, (25, 19), interpolation=cv2.INTER_AREA),
        lambda image: cv2.GaussianBlur(image, (3, 3), 0),
    ],
)
def test_a_training_picture_that_is_in_the_test_set_is_found(lol, change):
    copy_changed(lol / "eval15" / "high" / "d.png", lol / "our485" / "high" / "b.png", change)
    found = pairs.read_layout(lol, Report())
    train = [pair for pair in found if pair.split == "train"]
    held_out = [(pair.high, pair.where) for pair in found if pair.split == "test"]
    report = Report()
    assert near_duplicates.guard(train, held_out, report, drop=False) == (train, 1)
    assert "b.png shows the scene of" in str(next(iter(report))) and "d.png" in str(next(iter(report)))
    kept, _ = near_duplicates.guard(train, held_out, Report(), drop=True)
    assert [pair.key for pair in kept] == ["our485/a", "our485/c"]


def test_pairs_of_one_picture_or_one_name_are_one_scene(lol):
    copy_changed(lol / "eval15" / "high" / "d.png", lol / "our485" / "high" / "b.png", lambda image: image)
    found = pairs.read_layout(lol, Report())
    assert near_duplicates.scenes_of(found) == ["eval15/d", "eval15/e", "our485/a", "eval15/d", "our485/c"]
    import dataclasses

    named = [dataclasses.replace(pair, scene="s" if pair.key in ("eval15/e", "our485/c") else "") for pair in found]
    assert near_duplicates.scenes_of(named) == ["eval15/d", "s", "our485/a", "eval15/d", "s"]


def test_flat_and_unreadable_pictures_are_like_nothing(tmp_path):
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((9, 9, 3), 7, np.uint8))
    (tmp_path / "c.png").write_bytes(b"x")
    paths = [str(tmp_path / f"{name}.png") for name in "abc"]
    assert near_duplicates.similar(paths, paths) == []
    assert near_duplicates.similar([], paths) == []


def test_the_real_pairs(shared):
    """SICE: the given split shares no scene; LOL: 5 and 6 are one scene, and eval15's 1 is the scene of training 2."""
    folder = shared / "data" / "sice"
    report = Report()
    found = pairs.read_pairs_csv(folder / "pairs_train.csv", None, report)
    assert len(found) == 238 and len(report) == 0
    scenes = near_duplicates.scenes_of(found)
    assert scenes == [pair.scene for pair in found], "no two scenes are taken for one"
    val = pairs.read_pairs_csv(folder / "pairs_val.csv", None, report)
    assert near_duplicates.guard(found, [(pair.high, pair.where) for pair in val], report, drop=True) == (found, 0)
    lol = pairs.read_layout(shared / "data" / "lol", report)
    assert near_duplicates.scenes_of(lol) == ["our485/2", "our485/5", "our485/5"]
    tests = [(str(path), Where(str(path))) for path in sorted((shared / "data/lol/eval15/low").iterdir())]
    kept, _ = near_duplicates.guard(lol, tests, report, drop=True)
    assert [pair.key for pair in kept] == ["our485/5", "our485/6"]
