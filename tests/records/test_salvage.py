from __future__ import annotations

import numpy as np
import pytest

from tfllv.records import framing, salvage, schema, shards


def flip(path, position, mask=0xFF):
    data = bytearray(path.read_bytes())
    data[position] ^= mask
    path.write_bytes(bytes(data))


def test_a_whole_set_is_good(write_numbers):
    findings = salvage.verify(str(write_numbers(20)))
    assert findings.good and findings.records == 20 and findings.shards == 4 and findings.manifest


def test_after_any_flipped_byte_at_most_one_record_is_lost_and_it_is_named_by_its_key(write_numbers):
    folder = write_numbers(6, num_shards=1, size=9)
    path = folder / "n-00000-of-00001"
    keys = shards.read_manifest(str(folder), "n")["shards"][0]["keys"]
    data = path.read_bytes()
    original = [payload for payload, _ in salvage.read_records(data, "n")]
    size = len(data) // 6
    for position in range(len(data)):
        mutant = bytearray(data)
        mutant[position] ^= 0xFF
        found = list(salvage.read_records(bytes(mutant), "n", keys))
        lost = [damage for _, damage in found if damage is not None and damage.lost]
        assert len(lost) <= 1
        assert [payload for payload, _ in found if payload is not None] == [
            payload for index, payload in enumerate(original) if not (lost and index == lost[0].record)
        ]
        if lost:
            assert lost[0].name == keys[position // size] and lost[0].record == position // size
            assert lost[0].offset == position // size * size


@pytest.mark.slow
def test_every_byte_of_a_shard_of_a_hundred_records(write_numbers):
    folder = write_numbers(100, num_shards=1, size=900)
    keys = shards.read_manifest(str(folder), "n")["shards"][0]["keys"]
    data = bytearray((folder / "n-00000-of-00001").read_bytes())
    assert len(data) > 90_000
    for position in range(len(data)):
        data[position] ^= 0xFF
        found = list(salvage.read_records(bytes(data), "n", keys))
        data[position] ^= 0xFF
        lost = [damage for _, damage in found if damage is not None and damage.lost]
        assert len(lost) <= 1 and len(found) == 100
        assert not lost or lost[0].name == keys[lost[0].record]


def test_verify_names_shard_record_and_place(write_numbers):
    folder = write_numbers(20)
    flip(folder / "n-00001-of-00004", 40)
    findings = salvage.verify(str(folder / "n"))
    keys = shards.read_manifest(str(folder), "n")["shards"][1]["keys"]
    assert not findings.good and findings.records == 19
    assert len(findings.lines) == 1 and "n-00001-of-00004 is altered" in findings.lines[0]
    (damage,) = findings.damages
    assert damage.record == 0 and damage.name == keys[0] and damage.lost and damage.offset == 0
    assert "checksum; lost" in str(damage)


def test_without_a_manifest_the_damaged_record_still_says_its_name(write_numbers):
    folder = write_numbers(20)
    (folder / "n.manifest.json").unlink()
    path = folder / "n-00001-of-00004"
    record = next(payload for payload, _ in salvage.read_records(path.read_bytes(), "n"))
    flip(path, 12 + record.index(schema.ENCODED.encode()) + len(schema.ENCODED) + 20)
    findings = salvage.verify(str(path))
    assert not findings.manifest and findings.damages[0].name == schema.name_of(record) != ""


def test_salvage_writes_what_is_whole_with_a_manifest_of_its_own(write_numbers, tmp_path):
    folder = write_numbers(20)
    original = {shard: (folder / shard).read_bytes() for shard in shards.shards_of(str(folder), "n")}
    flip(folder / "n-00001-of-00004", 40)  # a payload: lost
    flip(folder / "n-00002-of-00004", 3)  # a length: nothing lost
    findings = salvage.salvage(str(folder), str(tmp_path / "out"))
    assert findings.records == 19
    assert [damage.lost for damage in findings.damages] == [True, False]
    again = salvage.verify(str(tmp_path / "out"))
    assert again.good and again.records == 19
    manifest = shards.read_manifest(str(tmp_path / "out"), "n")
    assert len(manifest["lost"]) == 1 and "record 0" in manifest["lost"][0]
    for shard in ("n-00000-of-00004", "n-00002-of-00004", "n-00003-of-00004"):
        assert (tmp_path / "out" / shard).read_bytes() == original[shard]
    with pytest.raises(ValueError, match="`output`"):
        salvage.salvage(str(folder), str(tmp_path / "out"))


def test_a_missing_and_a_cut_shard_are_named_with_what_is_gone(write_numbers):
    folder = write_numbers(20)
    (folder / "n-00000-of-00004").unlink()
    path = folder / "n-00003-of-00004"
    data = path.read_bytes()
    edge = list(framing.scan(data))[2].offset
    path.write_bytes(data[:edge])  # TensorFlow reads this without a word
    findings = salvage.verify(str(folder))
    assert findings.records == 12
    assert any("n-00000-of-00004 is missing" in line for line in findings.lines)
    assert any("n-00003-of-00004 is short" in line for line in findings.lines)
    assert any("3 of 5 records are absent" in line for line in findings.lines)


def test_a_wiped_stretch_names_every_record_in_it(write_numbers):
    folder = write_numbers(20)
    keys = shards.read_manifest(str(folder), "n")["shards"][1]["keys"]
    path = folder / "n-00001-of-00004"
    data = path.read_bytes()
    offsets = [stretch.offset for stretch in framing.scan(data)]
    path.write_bytes(data[: offsets[1]] + bytes(offsets[3] - offsets[1]) + data[offsets[3] :])
    findings = salvage.verify(str(path))
    assert findings.records == 3
    assert [damage.name for damage in findings.damages] == [", ".join(keys[1:3])]
    path.write_bytes(data[: offsets[4] + 30])  # the last is cut
    findings = salvage.verify(str(path))
    assert findings.records == 4 and [damage.name for damage in findings.damages] == [keys[4]]


def test_a_file_of_garbage_and_an_empty_path(tmp_path):
    path = tmp_path / "x-00000-of-00001"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    findings = salvage.verify(str(path))
    assert findings.records == 0 and len(findings.damages) == 1
    with pytest.raises(ValueError, match="where nothing is"):
        salvage.verify(str(tmp_path / "y"))
