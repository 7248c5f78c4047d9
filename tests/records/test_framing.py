from __future__ import annotations

import struct

import numpy as np
import pytest

from tfllv.records import framing


@pytest.fixture
def payloads():
    rng = np.random.default_rng(0)
    # Zeros, an empty record and a record inside a record are what a resynchronising reader may stumble over.
    return [rng.bytes(40), b"", b"\0" * 64, rng.bytes(300), b"\0" * 7 + rng.bytes(9), rng.bytes(25)]


def test_the_bytes_are_those_of_tensorflows_writer(payloads, tmp_path):
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(tmp_path / "x")) as writer:
        for payload in payloads:
            writer.write(payload)
    assert b"".join(map(framing.frame, payloads)) == (tmp_path / "x").read_bytes()


def test_a_whole_file_scans_to_its_records(payloads):
    found = list(framing.scan(b"".join(map(framing.frame, payloads))))
    assert [stretch.payload for stretch in found] == payloads
    assert not any(stretch.damage or stretch.header_damaged for stretch in found)
    assert list(framing.scan(b"")) == []


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_after_any_flipped_byte_at_most_one_record_is_lost_and_it_is_named(payloads, flip):
    data = b"".join(map(framing.frame, payloads))
    edges = np.cumsum([0, *[len(payload) + framing.OVERHEAD for payload in payloads]])
    for position in range(len(data)):
        mutant = bytearray(data)
        mutant[position] ^= flip
        found = list(framing.scan(bytes(mutant)))
        hit = int(np.searchsorted(edges, position, side="right")) - 1
        whole = [stretch.payload for stretch in found if not stretch.damage]
        lost = [index for index, stretch in enumerate(found) if stretch.damage]
        assert lost in ([], [hit]), position
        assert whole == [payload for index, payload in enumerate(payloads) if index not in lost]
        assert lost or found[hit].header_damaged, "a flip that loses nothing must be in a header, and be seen"


def test_a_file_cut_anywhere_keeps_the_records_before_the_cut(payloads):
    data = b"".join(map(framing.frame, payloads))
    edges = np.cumsum([0, *[len(payload) + framing.OVERHEAD for payload in payloads]])
    for cut in range(len(data)):
        found = list(framing.scan(data[:cut]))
        count = int(np.searchsorted(edges, cut, side="right")) - 1
        assert [stretch.payload for stretch in found if not stretch.damage] == payloads[:count]
        assert any(stretch.damage for stretch in found) == (cut not in edges)


def test_garbage_between_records_is_one_stretch(payloads):
    parts = list(map(framing.frame, payloads))
    parts.insert(2, b"\0\1\2" * 50)
    found = list(framing.scan(b"".join(parts)))
    assert [stretch.payload for stretch in found if not stretch.damage] == payloads
    assert sum(bool(stretch.damage) for stretch in found) == 1


def test_a_long_wiped_stretch_is_passed_quickly(payloads):
    data = b"".join(map(framing.frame, payloads)) + bytes(200_000) + framing.frame(b"last")
    found = list(framing.scan(data))
    assert found[-1].payload == b"last" and sum(bool(stretch.damage) for stretch in found) == 1


def test_a_length_that_no_file_has_is_not_believed():
    header = struct.pack("<Q", 2**50)
    data = header + struct.pack("<I", framing.masked_crc(header)) + b"rest"
    found = list(framing.scan(data))
    assert len(found) == 1 and "ends inside" in found[0].damage
