from __future__ import annotations

import numpy as np
import pytest

from tfllv.records import coco, convert, detection, reader, schema, shards
from tfllv.records.problems import Report


def keys_of(dataset):
    return [schema.key_of(record) for record in dataset.as_numpy_iterator()]


def test_every_record_comes_once_in_an_order_that_stays(write_numbers):
    folder = write_numbers(23)
    first = keys_of(reader.read_dataset(f"{folder}/n-?????-of-00004"))
    assert sorted(first, key=int) == list(map(str, range(23)))
    assert first == keys_of(reader.read_dataset(folder)) == keys_of(reader.read_dataset(folder, parallel=1))
    assert int(reader.read_dataset(folder).cardinality()) == 23
    assert keys_of(reader.read_dataset(f"{folder}/n", check="none")) == first


@pytest.mark.parametrize(
    ("harm", "check", "message"),
    [
        (lambda path: path.unlink(), "size", r"n-00002-of-00004 is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-60]), "size", r"n-00002-of-00004 is short"),
        (lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]), "full", r"n-00002-of-00004 is altered"),
    ],
)
def test_a_harmed_shard_is_an_error_before_step_0(write_numbers, harm, check, message):
    folder = write_numbers(20)
    harm(folder / "n-00002-of-00004")
    with pytest.raises(ValueError, match=message):
        reader.read_dataset(folder / "n", check=check)


def test_a_set_without_manifest_is_refused_unless_asked(write_numbers):
    folder = write_numbers(20)
    (folder / "n.manifest.json").unlink()
    with pytest.raises(ValueError, match="missing"):
        reader.read_dataset(folder / "n")
    assert len(keys_of(reader.read_dataset(folder / "n", check="none"))) == 20
    with pytest.raises(ValueError, match="`path`"):
        reader.read_dataset(folder / "m", check="none")
    with pytest.raises(ValueError, match="`check`"):
        reader.read_dataset(folder / "n", check="some")


def test_records_parse_in_a_graph(coco_tree, tmp_path):
    import tensorflow as tf

    items, _ = coco.read_coco(coco_tree / "instances.json", coco_tree / "images", Report(), masks=True)
    build = detection.DetectionBuilder(include_masks=True, semantic_masks=True)
    options = convert.RunOptions(workers=1, num_shards=2)
    convert.convert([convert.SetPlan("c", items)], tmp_path / "out", build, source={}, options=options, say=print)
    dataset = reader.read_dataset(tmp_path / "out").map(reader.parse_example)
    for example in dataset:
        image = tf.io.decode_image(example[schema.ENCODED])
        classes = tf.io.decode_png(example[schema.SEMANTIC_ENCODED])
        assert image.shape[:2] == classes.shape[:2] == (example[schema.HEIGHT], example[schema.WIDTH])
        assert example[schema.XMIN].shape == example[schema.MASK].shape == (2,)
        mask = tf.io.decode_image(example[schema.MASK][0])
        np.testing.assert_array_equal(classes.numpy() == 3, mask.numpy() > 0)
    assert len(shards.read_manifest(str(tmp_path / "out"), "c")["shards"]) == 2
