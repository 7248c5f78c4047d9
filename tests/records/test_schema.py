from __future__ import annotations

import numpy as np
import pytest

from tfllv.records import schema

FEATURES = {
    schema.ENCODED: b"\xff\xd8\0picture",
    schema.HEIGHT: 480,
    schema.WIDTH: 2**40,
    schema.DARKEN_SEED: -3,
    schema.FILENAME: "naïve.jpg",
    schema.XMIN: [0.0, 0.25, 1e-30],
    schema.CLASS_LABEL: [1, 90, 300, -1, 2**62],
    schema.CLASS_TEXT: ["cat", b"", "x" * 200],
    schema.AREA: [],
    schema.MASK: [],
}


def as_example(features):
    import tensorflow as tf

    kinds = {"bytes": ("bytes_list", tf.train.BytesList), "float": ("float_list", tf.train.FloatList)}
    kinds["int64"] = ("int64_list", tf.train.Int64List)
    made = {}
    for key, value in features.items():
        kind, several = schema.FEATURES[key]
        values = list(value) if several else [value]
        values = [v.encode() if isinstance(v, str) else v for v in values]
        field, message = kinds[kind]
        made[key] = tf.train.Feature(**{field: message(value=values)})
    return tf.train.Example(features=tf.train.Features(feature=made))


def test_the_bytes_are_those_of_protocol_buffers_written_deterministically():
    assert schema.serialize(FEATURES) == as_example(FEATURES).SerializeToString(deterministic=True)


def test_an_empty_record_is_an_empty_example():
    assert schema.serialize({}) == b"\x0a\x00"


def test_tensorflow_reads_the_bytes():
    import tensorflow as tf

    example = tf.train.Example.FromString(schema.serialize(FEATURES))
    assert example == as_example(FEATURES)


def test_parsing_gives_back_what_was_written():
    found = schema.parse(schema.serialize(FEATURES))
    assert found[schema.HEIGHT] == [480] and found[schema.DARKEN_SEED] == [-3]
    assert found[schema.CLASS_LABEL] == [1, 90, 300, -1, 2**62]
    assert found[schema.CLASS_TEXT] == [b"cat", b"", b"x" * 200]
    np.testing.assert_array_equal(np.float32(found[schema.XMIN]), np.float32([0, 0.25, 1e-30]))
    assert found[schema.AREA] == []


def test_unpacked_numbers_of_other_writers_are_read():
    feature = b"\x1a\x04" + b"\x08\x07\x08\x09"  # int64_list with two values, not packed
    key = schema.HEIGHT.encode()
    entry = b"\x0a" + bytes([len(key)]) + key + b"\x12" + bytes([len(feature)]) + feature
    data = b"\x0a" + bytes([len(entry) + 2]) + b"\x0a" + bytes([len(entry)]) + entry
    import tensorflow as tf

    assert list(tf.train.Example.FromString(data).features.feature[schema.HEIGHT].int64_list.value) == [7, 9]
    assert schema.parse(data)[schema.HEIGHT] == [7, 9]


def test_every_mutated_byte_parses_or_is_a_value_error():
    data = schema.serialize(FEATURES)
    for position in range(len(data)):
        mutant = bytearray(data)
        mutant[position] ^= 0xFF
        assert isinstance(schema.name_of(bytes(mutant)), str)
    for cut in range(len(data)):
        assert isinstance(schema.name_of(data[:cut]), str)


def test_a_key_outside_the_schema_is_refused():
    with pytest.raises(ValueError, match="image/colour"):
        schema.serialize({"image/colour": 1})


@pytest.mark.parametrize("value", [{schema.HEIGHT: "tall"}, {schema.XMIN: ["a"]}, {schema.ENCODED: 3}])
def test_a_value_of_the_wrong_kind_is_refused(value):
    with pytest.raises(ValueError, match=next(iter(value))):
        schema.serialize(value)


def test_the_specification_parses_every_record():
    import tensorflow as tf

    found = tf.io.parse_single_example(schema.serialize(FEATURES), schema.spec())
    assert found[schema.HEIGHT].numpy() == 480
    assert found[schema.SPLIT].numpy() == b"" and found[schema.LIGHTING].numpy() == 0
    assert found[schema.CLASS_LABEL].numpy().tolist() == [1, 90, 300, -1, 2**62]


def test_the_table_has_tfods_keys():
    pytest.importorskip("object_detection")
    import importlib.util
    import pathlib

    folder = importlib.util.find_spec("object_detection").submodule_search_locations[0]
    decoder = pathlib.Path(folder, "data_decoders", "tf_example_decoder.py").read_text()
    ours = {key for key in schema.FEATURES if "paired" in key or "darken" in key or "segmentation" in key}
    ours |= {schema.LIGHTING, schema.LIGHTING_TEXT, schema.INDOOR, schema.SPLIT, schema.SCENE}
    for key in schema.FEATURES.keys() - ours:
        assert f"'{key}'" in decoder or f"'{key.rpartition('/')[0]}/'" in decoder, key
