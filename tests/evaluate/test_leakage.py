"""Pictures of one scene in two sets."""

from __future__ import annotations

import csv
import io

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from tfllv.evaluate import leakage

PHOTOS = {name: getattr(data, name)() for name in ("astronaut", "coffee", "chelsea", "rocket")}


def save(path, pixels):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def alter(image, rng):
    """Returns a near-duplicate as a file: cut by up to 8 % a side, resized, of other brightness, noisy."""
    height, width = image.shape[:2]
    cut = rng.uniform(0, 0.08, 2) * (height, width)
    top, left = (rng.uniform(0, cut)).astype(int)
    part = image[top : top + round(height - cut[0]), left : left + round(width - cut[1])]
    scale = rng.uniform(0.3, 1.2)
    size = (round(part.shape[1] * scale), round(part.shape[0] * scale * rng.uniform(0.9, 1.1)))
    part = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    level = (part / 255) ** rng.choice([0.5, 0.7, 1, 1.5, 2.2, 3]) * rng.uniform(0.15, 1.6)
    level = level + rng.normal(0, rng.uniform(0, 0.02), level.shape)
    stream = io.BytesIO()
    pixels = (255 * np.clip(level, 0, 1) + 0.5).astype(np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG", quality=int(rng.integers(30, 95)))
    return stream.getvalue()


@pytest.fixture(scope="module")
def scenes(shared):
    """The rows of SICE's pairs, one a scene (its darkest): {scene: (low, high)}."""
    rows: dict[str, tuple] = {}
    for name in ("pairs_train.csv", "pairs_val.csv"):
        with open(shared / "data/sice" / name, newline="") as file:
            for row in csv.DictReader(file):
                rows.setdefault(row["scene"], tuple(shared / "data/sice" / row[key] for key in ("low", "high")))
    return rows


def test_a_hundred_of_a_hundred_planted_near_duplicates_are_found_and_nothing_else(scenes, tmp_path):
    rng = np.random.default_rng(0)
    # Scenes 258 and 260 are one view of one tree; the set does not say so, and only one of them can be planted.
    names = sorted(set(scenes) - {"260"}, key=int)
    planted = [names[index] for index in rng.choice(len(names), 100, replace=False)]
    dark = [scenes[name][0] for name in names]
    # What is sought in the dark pictures is made from the bright ones: never the same exposure.
    copies = [tmp_path / f"{name}.jpg" for name in planted]
    for name, copy in zip(planted, copies, strict=True):
        copy.write_bytes(alter(np.asarray(Image.open(scenes[name][1])), rng))
    report = leakage.find_leaks(dark, copies)
    found = {(pair["a"], pair["b"]) for pair in report["pairs"]}
    assert found == {(str(scenes[name][0]), str(tmp_path / f"{name}.jpg")) for name in planted}
    assert report["leaked_a"] == report["leaked_b"] == 100


def test_scenes_of_sice_are_not_taken_for_one_another(shared):
    sets = [leakage.list_images(shared / "data/sice" / f"pairs_{name}.csv", name=name) for name in ("train", "val")]
    report = leakage.find_leaks(*sets, threshold=0.35)
    assert (report["count_a"], report["count_b"]) == (358, 80)
    assert report["pairs"] == []


def test_the_scene_that_lol_has_in_both_its_parts_is_found(shared):
    sets = [leakage.list_images(shared / "data/lol" / part) for part in ("our485", "eval15")]
    report = leakage.find_leaks(*sets)
    assert {(pair["a"][-10:], pair["b"][-9:]) for pair in report["pairs"]} == {
        ("/low/2.png", "low/1.png"),
        ("high/2.png", "low/1.png"),
    }


def test_altered_copies_are_found_among_other_photographs(tmp_path, rng):
    a = [save(tmp_path / "a" / f"{name}.png", pixels) for name, pixels in PHOTOS.items()]
    b = [tmp_path / "b" / f"{name}.jpg" for name in ("coffee", "rocket")]
    b.append(save(tmp_path / "b" / "other.png", data.retina()[200:800, 200:800]))
    for name, copy in zip(("coffee", "rocket"), b, strict=False):
        copy.write_bytes(alter(PHOTOS[name], rng))
    report = leakage.find_leaks(a, b)
    found = {(pair["a"], pair["b"]) for pair in report["pairs"]}
    assert found == {(str(a[1]), str(b[0])), (str(a[3]), str(b[1]))}
    assert (report["leaked_a"], report["leaked_b"], report["count_a"], report["count_b"]) == (2, 2, 4, 3)
    scores = [pair["score"] for pair in report["pairs"]]
    assert scores == sorted(scores, reverse=True) and not any(pair["equal"] for pair in report["pairs"])


def test_mirrored_copies_are_found_when_asked_for(tmp_path):
    a = [save(tmp_path / "a.png", PHOTOS["coffee"])]
    b = [save(tmp_path / "b.jpg", np.ascontiguousarray(PHOTOS["coffee"][:, ::-1]))]
    assert leakage.find_leaks(a, b)["pairs"] == []
    (pair,) = leakage.find_leaks(a, b, flip=True)["pairs"]
    assert pair["flipped"]


def test_flat_pictures_match_only_equal_ones_and_are_named(tmp_path):
    flat, other = np.full((70, 70, 3), 9, np.uint8), np.full((70, 70, 3), 10, np.uint8)
    a = [save(tmp_path / "a.png", flat)]
    b = [save(tmp_path / "b.png", flat), save(tmp_path / "c.png", other)]
    report = leakage.find_leaks(a, b)
    assert [(pair["b"], pair["score"], pair["equal"]) for pair in report["pairs"]] == [(str(b[0]), 1.0, True)]
    assert report["textureless"] == [str(path) for path in (*a, *b)]


def test_a_set_is_a_folder_an_image_a_table_or_one_of_its_columns(tmp_path):
    files = [save(tmp_path / folder / f"{k}.png", PHOTOS["coffee"]) for folder in ("low", "high") for k in (1, 2)]
    table = tmp_path / "pairs.csv"
    table.write_text("scene,low,high\n1,low/1.png,high/1.png\n1,low/2.png,high/1.png\n")
    assert leakage.list_images(tmp_path / "low") == files[:2]
    assert leakage.list_images(files[0]) == files[:1]
    assert set(leakage.list_images(table)) == set(files[:3])
    assert leakage.list_images(f"{table}:low") == files[:2]
    assert leakage.list_images(f"{table}:high") == files[2:3]


def test_what_is_no_set_is_refused(tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text("low\nabsent.png\n")
    with pytest.raises(FileNotFoundError, match=r"pairs\.csv names .*absent\.png, which does not exist"):
        leakage.list_images(table)
    with pytest.raises(ValueError, match=r"must have the column 'high'\. Received: low\."):
        leakage.list_images(f"{table}:high")
    with pytest.raises(FileNotFoundError, match=r"`b` must be a folder, an image or a CSV file"):
        leakage.list_images(tmp_path / "nothing", name="b")
    table.write_text("low\n\n")
    with pytest.raises(ValueError, match="`a` must name images"):
        leakage.list_images(table)
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not a CSV file"):
        leakage.list_images(table)


def test_one_set_twice_an_empty_one_and_a_broken_picture_are_refused(tmp_path):
    good, bad = save(tmp_path / "a.png", PHOTOS["coffee"]), tmp_path / "bad.png"
    bad.write_bytes(good.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"must be two sets. Received: the same 1 images twice"):
        leakage.find_leaks([good], [tmp_path / "." / "a.png"])
    with pytest.raises(ValueError, match=r"must hold images. Received: 1 and 0"):
        leakage.find_leaks([good], [])
    with pytest.raises(ValueError, match=r"bad\.png"):
        leakage.find_leaks([good], [bad])
