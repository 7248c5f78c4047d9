"""Which picture belongs to which truth."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tfllv.evaluate import image_pairs


@pytest.fixture
def make(tmp_path):
    def write(*names, size=(8, 6)):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(path)
        return tmp_path

    return write


def test_folders_pair_by_name_whatever_the_ending(make):
    root = make("pred/a.png", "pred/b.jpg", "truth/b.png", "truth/a.bmp")
    pairs, missing = image_pairs.pair_folders(root / "pred", root / "truth")
    assert [(p.name, p.picture.name, p.truth.name) for p in pairs] == [
        ("a.png", "a.png", "a.bmp"),
        ("b.jpg", "b.jpg", "b.png"),
    ]
    assert missing == []


def test_what_has_no_counterpart_is_named_on_either_side(make):
    root = make("pred/a.png", "pred/only.png", "truth/a.png", "truth/lost.png")
    pairs, missing = image_pairs.pair_folders(root / "pred", root / "truth")
    assert [p.name for p in pairs] == ["a.png"]
    assert missing == [
        f"{root}/pred/only.png has no truth in {root}/truth",
        f"{root}/truth/lost.png has no picture in {root}/pred",
    ]


def test_sub_folders_tell_equal_names_apart(make):
    root = make("pred/x/1.png", "pred/y/1.png", "truth/x/1.png", "truth/y/1.png")
    pairs, missing = image_pairs.pair_folders(root / "pred", root / "truth")
    assert [(p.name, p.truth.relative_to(root).as_posix()) for p in pairs] == [
        ("x/1.png", "truth/x/1.png"),
        ("y/1.png", "truth/y/1.png"),
    ]
    assert missing == []


def test_two_files_for_one_name_are_refused(make):
    root = make("pred/a.png", "pred/a.jpg", "truth/a.png")
    with pytest.raises(ValueError, match=r"`pred` must hold one image for .*truth/a\.png\. Received: .*a\.jpg"):
        image_pairs.pair_folders(root / "pred", root / "truth")
    root = make("one/a.png", "two/x/a.png", "two/y/a.png")
    with pytest.raises(ValueError, match="`truth` must hold one image for 'a'"):
        image_pairs.pair_folders(root / "one", root / "two")


def test_folders_without_a_common_name_and_absent_ones_are_refused(make):
    root = make("pred/a.png", "truth/b.png")
    with pytest.raises(ValueError, match=r"no picture has a truth: .*a\.png has no truth"):
        image_pairs.pair_folders(root / "pred", root / "truth")
    with pytest.raises(FileNotFoundError, match="`low` must be a folder of images"):
        image_pairs.pair_folders(root / "none", root / "truth", argument="low")


def test_a_table_names_pairs_and_scenes(make):
    root = make("low/1.png", "low/2.png", "high/9.png")
    (root / "pairs.csv").write_text("scene,low,high\n7,low/1.png,high/9.png\n7,low/2.png,high/9.png\n")
    pairs, missing = image_pairs.pair_table(root / "pairs.csv")
    assert [(p.name, p.picture, p.truth, p.scene) for p in pairs] == [
        ("low/1.png", root / "low/1.png", root / "high/9.png", "7"),
        ("low/2.png", root / "low/2.png", root / "high/9.png", "7"),
    ]
    assert missing == []


def test_results_of_a_table_are_found_by_the_dark_pictures_name(make):
    root = make("low/1.jpg", "low/2.jpg", "high/9.png", "out/1.png", "deep/low/2.png")
    (root / "pairs.csv").write_text("low,high\nlow/1.jpg,high/9.png\nlow/2.jpg,high/9.png\n")
    pairs, missing = image_pairs.pair_table(root / "pairs.csv", pictures=root / "out")
    assert [p.picture for p in pairs] == [root / "out/1.png"]
    assert missing == [f"{root}/pairs.csv:3: no picture for low/2.jpg in {root}/out"]
    pairs, _ = image_pairs.pair_table(root / "pairs.csv", pictures=root / "deep")
    assert [p.picture for p in pairs] == [root / "deep/low/2.png"]


def test_the_roots_of_a_table_may_be_elsewhere(make):
    root = make("a/1.png", "b/1.png")
    (root / "pairs.csv").write_text("low,high\n1.png,1.png\n2.png,1.png\n")
    pairs, missing = image_pairs.pair_table(root / "pairs.csv", low=root / "a", truths=root / "b")
    assert [(p.picture, p.truth) for p in pairs] == [(root / "a/1.png", root / "b/1.png")]
    assert missing == [f"{root}/pairs.csv:3: no picture for 2.png in {root}/a"]
    with pytest.raises(ValueError, match=r"no picture has a truth: .*pairs\.csv:2: no picture for 1\.png"):
        image_pairs.pair_table(root / "pairs.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"dark,bright\na,b\n", r"must have the columns low, high\. Received: \['dark', 'bright'\]"),
        (b"low,high\na.png,\n", r"pairs\.csv:2: `high` must name a file"),
        (b"low,high\na.png\n", r"pairs\.csv:2: `high` must name a file"),
        (b"", "must have the columns"),
        (b"\xff\xfe\x00\x01", "not a CSV file"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, message):
    (tmp_path / "pairs.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        image_pairs.pair_table(tmp_path / "pairs.csv")


def test_sizes_are_compared_before_any_pixel_is_read_and_both_files_named(make):
    root = make("pred/a.png")
    make("truth/a.png", size=(8, 7))
    pairs, _ = image_pairs.pair_folders(root / "pred", root / "truth")
    with pytest.raises(ValueError, match=r"nothing is resized.*pred/a\.png is 8x6, .*truth/a\.png is 8x7\.$") as caught:
        image_pairs.check_sizes(pairs)
    assert "\n" not in str(caught.value)


def test_sizes_are_those_of_upright_pictures(make, tmp_path):
    root = make("truth/a.png", size=(6, 8))
    turned = Image.fromarray(np.zeros((6, 8, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "pred").mkdir()
    turned.save(tmp_path / "pred/a.jpg", exif=exif)
    pairs, _ = image_pairs.pair_folders(root / "pred", root / "truth")
    assert image_pairs.check_sizes(pairs) == []


def test_an_unreadable_header_is_a_reason_not_an_end(make, tmp_path):
    root = make("pred/a.png", "truth/a.png", "truth/b.png")
    (tmp_path / "pred/b.png").write_text("not an image")
    pairs, _ = image_pairs.pair_folders(root / "pred", root / "truth")
    ((pair, reason),) = image_pairs.check_sizes(pairs)
    assert pair.name == "b.png" and "b.png" in reason
