"""Enhancing the pictures of TFRecords: everything else stays, byte for byte."""

from __future__ import annotations

import hashlib
import json

import cv2
import numpy as np
import pytest

from tfllv import cli
from tfllv.records import framing, schema
from tfllv.runner import records

BOXES = {schema.YMIN: [0.1, 0.5], schema.XMIN: [0.2, 0.5], schema.YMAX: [0.6, 1.0], schema.XMAX: [0.7, 0.75]}


def payload(number, picture):
    return schema.serialize(
        {
            schema.ENCODED: cv2.imencode(".png", picture)[1].tobytes(),
            schema.FORMAT: "png",
            schema.HEIGHT: picture.shape[0],
            schema.WIDTH: picture.shape[1],
            schema.SOURCE_ID: f"id{number}",
            schema.CLASS_TEXT: ["cat", "dog"],
            schema.MASK: [b"mask one", b"mask two"],
            **BOXES,
        }
    )


@pytest.fixture
def dark_set(tmp_path):
    """Two shards of two dark pictures each, of different sizes."""
    folder = tmp_path / "dark"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for shard in range(2):
        pictures = [rng.integers(0, 40, (20 + number, 30, 3), np.uint8) for number in range(2)]
        chunks = [framing.frame(payload(2 * shard + n, picture)) for n, picture in enumerate(pictures)]
        (folder / f"train.record-{shard:05d}-of-00002").write_bytes(b"".join(chunks))
    return folder


def read(path):
    return [schema.parse(found.payload) for found in framing.scan(path.read_bytes())]


def test_pictures_are_enhanced_and_everything_else_is_kept(dark_set, tmp_path, capsys):
    out = tmp_path / "bright"
    words = ["enhance", str(dark_set / "train.record-00000-of-00002"), "-o", str(out), "--method", "gamma"]
    assert cli.main([*words, "--record_format", "png"]) == 0
    assert "4 records" in capsys.readouterr().out
    for shard in range(2):
        name = f"train.record-{shard:05d}-of-00002"
        for before, after in zip(read(dark_set / name), read(out / name), strict=True):
            changed = {key for key in after if after[key] != before.get(key)}
            assert changed == {schema.ENCODED, schema.SHA256}
            old, new = (cv2.imdecode(np.frombuffer(row[schema.ENCODED][0], np.uint8), 1) for row in (before, after))
            assert old.shape == new.shape
            expected = np.sqrt(old / 255) * 255
            assert np.abs(new - expected).max() <= 1
            assert after[schema.SHA256] == [hashlib.sha256(after[schema.ENCODED][0]).hexdigest().encode()]
    manifest = json.loads((out / "train.record.manifest.json").read_text())
    assert manifest["count"] == 4
    assert manifest["options"]["method"] == "gamma"


def test_features_outside_the_schema_survive():
    tensorflow = pytest.importorskip("tensorflow")
    example = tensorflow.train.Example()
    example.features.feature["image/object/difficult"].int64_list.value.extend([0, 1])
    example.features.feature["image/format"].bytes_list.value.append(b"jpeg")
    example.features.feature["empty"].float_list.SetInParent()
    changed = schema.replace(example.SerializeToString(), {"image/format": b"png", "image/encoded": b"x"})
    example.features.feature["image/format"].bytes_list.value[0] = b"png"
    example.features.feature["image/encoded"].bytes_list.value.append(b"x")
    assert tensorflow.train.Example.FromString(changed) == example


def test_a_picture_that_cannot_be_read_is_left_out_and_named(tmp_path, capsys):
    good, bad = payload(0, np.zeros((8, 8, 3), np.uint8)), schema.serialize({schema.SOURCE_ID: "bad"})
    source = tmp_path / "one.tfrecord"
    source.write_bytes(framing.frame(good) + framing.frame(bad))
    assert cli.main(["enhance", str(source), "-o", str(tmp_path / "out"), "--method", "gamma"]) == 1
    captured = capsys.readouterr()
    assert "record 'bad': image/encoded: not a picture" in captured.err
    assert "1 records" in captured.out


def test_damage_and_wrong_use_are_one_line(dark_set, tmp_path, capsys):
    words = ["enhance", str(dark_set / "train.record"), "--method", "gamma", "-o"]
    assert cli.main([*words, str(dark_set)]) == 2
    assert "must be another folder than the records'" in capsys.readouterr().err
    shard = dark_set / "train.record-00001-of-00002"
    shard.write_bytes(shard.read_bytes()[:-9])
    assert cli.main([*words, str(tmp_path / "out")]) == 2
    errors = capsys.readouterr().err
    assert "train.record-00001-of-00002: record at byte" in errors
    assert "tfllv records salvage" in errors
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True
    assert cli.main(["enhance", str(tmp_path / "no.record"), "-o", str(tmp_path / "o"), "--method", "gamma"]) == 2
    assert "must name TFRecords" in capsys.readouterr().err


def test_a_second_call_does_nothing_and_another_method_needs_overwrite(dark_set, tmp_path, capsys):
    words = ["enhance", str(dark_set / "train.record"), "-o", str(tmp_path / "out"), "--method"]
    assert cli.main([*words, "gamma"]) == 0
    first = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert cli.main([*words, "gamma"]) == 0
    assert "everything is there already" in capsys.readouterr().err
    assert first == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert cli.main([*words, "exposure"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert cli.main([*words, "exposure", "--overwrite"]) == 0


def test_the_format_is_checked():
    with pytest.raises(ValueError, match="`image_format` must be one of jpeg, png"):
        records.EnhancedBuilder("gamma", "", "gif", lambda picture: picture)
