from __future__ import annotations

import collections

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfllv.inputs import files, pipeline

COUNT = 7


@pytest.fixture
def paths(tmp_path, rng):
    made = []
    for i in range(COUNT):
        made.append(tmp_path / f"{i}.png")
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(made[-1])
    return made


@pytest.fixture
def source(paths):
    return pipeline.ImageSource({"low": paths}, size=16)


def _batches(source, **options):
    return list(pipeline.training_batches(source, **{"batch_size": 4, "seed": 3, "stop_step": 9, **options}))


def test_a_batch_is_float_images_and_names(source):
    batch = _batches(source)[0]
    assert set(batch) == {"low", "name"}
    assert batch["low"].shape == (4, 16, 16, 3) and batch["low"].dtype == tf.float32
    assert batch["low"].numpy().min() >= 0 and batch["low"].numpy().max() <= 1
    index = source.names.index(batch["name"][2].numpy().decode())
    np.testing.assert_allclose(batch["low"][2], source.read("low", index) / 255, atol=1e-6)


def test_every_image_is_shown_once_an_epoch_in_another_order_each_time(source):
    names = [name.decode() for batch in _batches(source, stop_step=14) for name in batch["name"].numpy()]
    epochs = [names[i : i + COUNT] for i in range(0, 8 * COUNT, COUNT)]
    assert all(sorted(epoch) == sorted(source.names) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 8


@pytest.mark.parametrize("start", range(9))
@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_a_run_can_start_at_any_step(paths, start, fit):
    source = pipeline.ImageSource({"low": paths}, size=16, fit=fit)
    whole = _batches(source, augment=True)
    rest = _batches(source, augment=True, start_step=start)
    assert len(rest) == 9 - start
    for one, other in zip(whole[start:], rest, strict=True):
        np.testing.assert_array_equal(one["name"], other["name"])
        np.testing.assert_array_equal(one["low"], other["low"])


def test_what_was_skipped_is_not_decoded(paths, monkeypatch):
    decoded = collections.Counter()
    read = files.read_pixels
    monkeypatch.setattr(files, "read_pixels", lambda path: (decoded.update([path.name]), read(path))[1])
    source = pipeline.ImageSource({"low": paths}, size=16, cache_mb=0)
    _batches(source, start_step=1000, stop_step=1001)
    assert decoded.total() == 4


@pytest.mark.parametrize("step", [0, 1, 5, 23])
def test_the_images_of_a_step_are_known_without_a_run(source, step):
    batch = _batches(source, start_step=step, stop_step=step + 1)[0]
    indices = pipeline.batch_indices(COUNT, seed=3, step=step, batch_size=4)
    assert [source.names[i] for i in indices] == [name.decode() for name in batch["name"].numpy()]


def test_readers_that_share_the_work_see_the_same_batches(paths):
    source = pipeline.ImageSource({"low": paths}, size=16, fit="crop")
    whole = _batches(source, augment=True)
    shares = [_batches(source, augment=True, shard=(i, 2), parts=2) for i in range(2)]
    for step, batch in enumerate(whole):
        pieces = [share[2 * step + part]["low"] for share in shares for part in range(2)]
        np.testing.assert_array_equal(batch["low"], tf.concat(pieces, 0))


def test_the_seed_changes_order_and_crops(paths):
    source = pipeline.ImageSource({"low": paths}, size=16, fit="crop")
    one, other = _batches(source)[0], _batches(source, seed=4)[0]
    assert one["name"].numpy().tolist() != other["name"].numpy().tolist()
    first, second = _batches(source, stop_step=14)[0], _batches(source, stop_step=14)[0]
    np.testing.assert_array_equal(first["low"], second["low"])


def test_fewer_images_than_a_batch_are_repeated(paths):
    source = pipeline.ImageSource({"low": paths[:2]}, size=16)
    batch = _batches(source, batch_size=6)[0]
    assert sorted(collections.Counter(batch["name"].numpy()).values()) == [3, 3]


def test_pairs_come_together(paths):
    source = pipeline.ImageSource({"low": paths, "high": paths[::-1]}, size=16)
    batch = _batches(source)[0]
    index = source.names.index(batch["name"][0].numpy().decode())
    np.testing.assert_allclose(batch["high"][0], source.read("low", COUNT - 1 - index) / 255, atol=1e-6)


def test_decoded_images_are_kept_up_to_the_limit(paths, monkeypatch):
    calls = collections.Counter()
    read = files.read_pixels
    monkeypatch.setattr(files, "read_pixels", lambda path: (calls.update([path.name]), read(path))[1])
    room_for_three = pipeline.ImageSource({"low": paths}, size=200, cache_mb=3 * 200 * 200 * 3 // 10**6 + 1)
    for _ in range(2):
        for index in range(COUNT):
            room_for_three.read("low", index)
    kept = 10**6 // (200 * 200 * 3)
    assert sorted(calls.values()) == [1] * min(kept, COUNT) + [2] * (COUNT - min(kept, COUNT))


def test_the_permutation_is_written_down():
    # Guards the data order against a change of TensorFlow or of this code: a resumed run depends on it.
    assert sorted(pipeline.permutation(0, 0, 10).numpy()) == list(range(10))
    np.testing.assert_array_equal(pipeline.permutation(7, 3, 10), PERMUTATION)


PERMUTATION = [0, 5, 3, 1, 4, 2, 7, 8, 9, 6]


def test_the_steps_of_a_run_round_up():
    assert pipeline.total_steps(7, num_epochs=2, batch_size=4) == 4
    assert pipeline.total_steps(8, num_epochs=2, batch_size=4) == 4


def test_a_file_that_is_no_image_is_named_at_once(paths):
    paths[3].write_text("no image")
    with pytest.raises(ValueError, match=r"3\.png: .* Remove the file or `exclude` it"):
        pipeline.ImageSource({"low": paths}, size=16)


def test_a_batch_must_divide_among_the_readers(source):
    with pytest.raises(ValueError, match=r"`train_batch_size` must be a multiple of the 3 replicas\. Received: 4"):
        _batches(source, shard=(0, 3))


def test_columns_must_match(paths):
    with pytest.raises(ValueError, match="must be of one length, at least 1"):
        pipeline.ImageSource({"low": paths, "high": paths[:-1]}, size=16)
    with pytest.raises(ValueError, match="must be of one length, at least 1"):
        pipeline.ImageSource({"low": []}, size=16)


def test_the_fingerprint_follows_the_list_of_files(paths):
    whole = pipeline.ImageSource({"low": paths}, size=16).fingerprint()
    assert whole == pipeline.ImageSource({"low": paths}, size=16).fingerprint()
    assert whole != pipeline.ImageSource({"low": paths[:-1]}, size=16).fingerprint()


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("encoding", [{"subsampling": 0}, {"subsampling": 1}, {}, {"progressive": True}])
def test_files_too_many_to_be_kept_give_the_same_bits(tmp_path, rng, augment, encoding):
    paths = []
    for i in range(COUNT):
        paths.append(tmp_path / f"{i}.jpg")
        sides = rng.integers(16, 90, 2)
        Image.fromarray(rng.integers(0, 256, (*sides, 3), dtype=np.uint8)).save(paths[-1], quality=90, **encoding)
    kept = pipeline.ImageSource({"low": paths}, size=16, fit="crop")
    read_anew = pipeline.ImageSource({"low": paths}, size=16, fit="crop", cache_mb=0)
    options = {"augment": augment, "stop_step": 40}
    for one, other in zip(_batches(kept, **options), _batches(read_anew, **options), strict=True):
        np.testing.assert_array_equal(one["name"], other["name"])
        np.testing.assert_array_equal(one["low"], other["low"])
    assert not read_anew._kept and len(kept._kept) == COUNT
