from __future__ import annotations

import threading
import time
import types

import cv2
import numpy as np
import pytest
from PIL import Image

from tfllv.inputs import image_files
from tfllv.runner import files


class Doubler:
    """An enhancer that doubles values, and records how many pictures it held at once."""

    def __init__(self, kind="classical", pause=0.0):
        self.method = types.SimpleNamespace(kind=kind)
        self.pause, self.now, self.most, self.tiles = pause, 0, 0, []
        self.lock = threading.Lock()

    def tiled(self, image, tile=None):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.tiles.append(tile)
        time.sleep(self.pause)
        with self.lock:
            self.now -= 1
        top = np.iinfo(image.dtype).max
        return np.minimum(image.astype(np.uint32) * 2, top).astype(image.dtype)

    def stream(self, *, smoothing=0.9):
        return self.tiled


def save(path, size=(12, 9), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 100, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def test_a_folder_comes_out_enhanced_under_the_same_names(tmp_path):
    first = save(tmp_path / "in/a.png")
    second = save(tmp_path / "in/sub/b.bmp")
    save(tmp_path / "in/sub/c.jpg")
    summary = files.enhance_files([tmp_path / "in"], tmp_path / "out", Doubler(), recursive=True)
    assert (summary.images, summary.failed, summary.exit_code) == (3, [], 0)
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert written == ["a.png", "sub/b.bmp", "sub/c.jpg"]
    np.testing.assert_array_equal(image_files.read_image(tmp_path / "out/a.png").pixels, first * 2)
    np.testing.assert_array_equal(image_files.read_image(tmp_path / "out/sub/b.bmp").pixels, second * 2)


def test_bad_files_are_named_with_their_reason_and_the_rest_is_done(tmp_path, capsys):
    for name in ("a", "c", "e"):
        save(tmp_path / f"in/{name}.png")
    (tmp_path / "in/b.png").write_bytes(b"not an image")
    (tmp_path / "in/d.png").write_bytes((tmp_path / "in/c.png").read_bytes()[:60])
    summary = files.enhance_files([tmp_path / "in", tmp_path / "none.png"], tmp_path / "out", Doubler(), threads=3)
    assert summary.images == 3
    assert summary.exit_code == 1
    assert [path.rpartition("/")[2] for path, _ in summary.failed] == ["b.png", "d.png", "none.png"]
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"{path}: {reason}" for path, reason in summary.failed]
    assert lines[0].startswith(f"{tmp_path}/in/b.png: content that begins with 'not ' found")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png", "e.png"]


def test_an_enhancer_that_fails_fails_that_file_alone(tmp_path, capsys):
    for name in ("a", "bb"):
        save(tmp_path / f"in/{name}.png", size=(len(name), 1))
    enhancer = Doubler()
    plain = enhancer.tiled

    def fails(image, tile=None):
        if image.shape[1] == 1:
            raise RuntimeError("too\nsmall")
        return plain(image, tile)

    enhancer.tiled = fails
    summary = files.enhance_files([tmp_path / "in"], tmp_path / "out", enhancer)
    assert summary.images == 1
    assert summary.failed == [(f"{tmp_path}/in/a.png", "RuntimeError: too small")]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["bb.png"]


def test_a_stop_while_flushing_leaves_no_temporary_file(tmp_path, monkeypatch):
    for index in range(8):
        save(tmp_path / f"in/{index}.png")
    done = []

    def stop(*_):
        if done:
            raise KeyboardInterrupt
        time.sleep(0.2)  # the workers write all the others meanwhile
        done.append(1)

    monkeypatch.setattr(image_files.os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        files.enhance_files([tmp_path / "in"], tmp_path / "out", Doubler())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["0.png"]


def test_a_full_disk_fails_each_file_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    for index in range(3):
        save(tmp_path / f"in/{index}.png")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_files.os, "fsync", full)
    summary = files.enhance_files([tmp_path / "in"], tmp_path / "out", Doubler())
    assert summary.exit_code == 1 and len(summary.failed) == 3
    assert "cannot be written: No space left on device" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_existing_output_is_kept_and_counted_unless_overwritten(tmp_path):
    pixels = save(tmp_path / "in/a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").write_bytes(b"old")
    summary = files.enhance_files([tmp_path / "in"], tmp_path / "out", Doubler())
    assert summary.exit_code == 1
    assert "--overwrite" in summary.failed[0][1]
    assert (tmp_path / "out/a.png").read_bytes() == b"old"
    assert files.enhance_files([tmp_path / "in"], tmp_path / "out", Doubler(), overwrite=True).exit_code == 0
    np.testing.assert_array_equal(image_files.read_image(tmp_path / "out/a.png").pixels, pixels * 2)


def test_depth_alpha_and_orientation_survive(tmp_path):
    (tmp_path / "in").mkdir()
    deep = np.random.default_rng(0).integers(0, 30000, (4, 6, 4)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "in/deep.png"), deep)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = save(tmp_path / "in/turned.png", exif=exif)
    assert files.enhance_files([tmp_path / "in"], tmp_path / "out", Doubler()).exit_code == 0
    picture = image_files.read_image(tmp_path / "out/deep.png")
    np.testing.assert_array_equal(picture.pixels, deep[..., 2::-1] * 2)
    np.testing.assert_array_equal(picture.alpha, deep[..., 3])
    picture = image_files.read_image(tmp_path / "out/turned.png")
    np.testing.assert_array_equal(picture.pixels, np.rot90(turned, -1) * 2)
    assert picture.header.orientation == 1


def test_what_is_lost_is_said(tmp_path, capsys):
    frames = [Image.fromarray(np.full((4, 4, 4), 40 * i, np.uint8)) for i in range(3)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:])
    files.enhance_files([tmp_path / "a.webp"], tmp_path / "out.jpg", Doubler())
    error = capsys.readouterr().err
    assert f"{tmp_path}/a.webp: has several pictures; the first was enhanced" in error
    assert "is transparent in places, which .jpg cannot hold" in error


@pytest.mark.parametrize("kind", ["classical", "network"])
def test_networks_take_one_picture_at_a_time_and_classical_methods_many(kind, tmp_path):
    for index in range(6):
        save(tmp_path / f"in/{index}.png")
    enhancer = Doubler(kind, pause=0.05)
    summary = files.enhance_files([tmp_path / "in"], tmp_path / "out", enhancer, threads=3, tile=128)
    assert enhancer.most == (1 if kind == "network" else 3)
    assert enhancer.tiles == [128] * 6
    assert summary.busy["enhance"] > 0.25


def test_pictures_in_work_stay_within_the_memory_budget(tmp_path, monkeypatch):
    for index in range(6):
        save(tmp_path / f"in/{index}.png")
    monkeypatch.setattr(files, "MEMORY_BUDGET", 2 * files._COPIES * 12 * 9 * 3)
    enhancer = Doubler(pause=0.03)
    assert files.enhance_files([tmp_path / "in"], tmp_path / "out", enhancer, threads=4).images == 6
    assert enhancer.most == 2


def test_a_picture_larger_than_the_budget_goes_in_alone():
    budget = files.MemoryBudget(10)
    order = []

    def work(size):
        with budget.hold(size):
            order.append(size)

    with budget.hold(4):
        large = threading.Thread(target=work, args=(50,))
        large.start()
        time.sleep(0.05)
        small = threading.Thread(target=work, args=(1,))  # fits, but the large one came first
        small.start()
        time.sleep(0.05)
        assert order == []
    large.join(5)
    small.join(5)
    assert order == [50, 1]


def test_a_stop_leaves_only_whole_files(tmp_path):
    for index in range(8):
        save(tmp_path / f"in/{index}.png")
    enhancer = Doubler(pause=0.05)
    plain, calls = enhancer.tiled, []

    def stops(image, tile=None):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(image, tile)

    enhancer.tiled = stops
    with pytest.raises(KeyboardInterrupt):
        files.enhance_files([tmp_path / "in"], tmp_path / "out", enhancer, threads=1)
    assert len(calls) < 8
    assert not list((tmp_path / "out").glob(".*")), "a temporary file was left"
    for path in (tmp_path / "out").iterdir():
        assert image_files.read_image(path).pixels.shape == (9, 12, 3)


def test_summary_is_one_line_with_count_time_and_rate():
    summary = files.Summary(images=200, seconds=12.3)
    assert summary.line() == "200 images in 12.3 s, 16.3 images/s; 0 failed"
    summary = files.Summary(images=1, videos=1, frames=20, failed=[("a", "b")], seconds=2)
    assert summary.line() == "1 image and 1 video of 20 frames in 2.0 s, 0.5 images/s; 1 failed"
    assert summary.exit_code == 1
    assert files.Summary(videos=2, frames=9, seconds=1).line() == "2 videos of 9 frames in 1.0 s; 0 failed"


def test_stages_account_for_the_time_of_one_worker(tmp_path):
    for index in range(4):
        save(tmp_path / f"in/{index}.png", size=(300, 200))
    summary = files.enhance_files([tmp_path / "in"], tmp_path / "out", Doubler(pause=0.02), threads=1)
    assert set(summary.busy) == set(files.STAGES)
    assert all(seconds >= 0 for seconds in summary.busy.values())
    working = sum(seconds for stage, seconds in summary.busy.items() if stage != "flush")
    assert 4 * 0.02 <= summary.busy["enhance"] < working <= summary.seconds
    pictures = sum(summary.busy[stage] for stage in ("decode", "enhance", "encode"))
    assert summary.picture_seconds == pytest.approx(pictures, rel=0.05)


def test_time_that_several_pictures_share_is_counted_once(tmp_path):
    for index in range(3):
        save(tmp_path / f"in/{index}.png")
    summary = files.enhance_files([tmp_path / "in"], tmp_path / "out", Doubler(pause=0.2), threads=3)
    assert summary.busy["enhance"] >= 0.6
    pictures = sum(summary.busy[stage] for stage in ("decode", "enhance", "encode"))
    assert 0.2 <= summary.picture_seconds < pictures
    assert summary.picture_seconds <= summary.seconds


def test_progress_is_silent_unless_asked_for(tmp_path, capsys):
    save(tmp_path / "in/a.png")
    files.enhance_files([tmp_path / "in"], tmp_path / "out", Doubler())
    assert capsys.readouterr().err == ""
    files.enhance_files([tmp_path / "in"], tmp_path / "out2", Doubler(), progress=True)
    assert "1/1" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("threads", 0), ("quality", 101)])
def test_wrong_options_are_refused_before_any_work(option, value, tmp_path):
    save(tmp_path / "in/a.png")
    with pytest.raises(ValueError, match=f"`{option}` must be .* Received: {option}={value}"):
        files.enhance_files([tmp_path / "in"], tmp_path / "out", Doubler(), **{option: value})
    assert not (tmp_path / "out").exists()


def test_images_and_videos_go_together(tmp_path):
    save(tmp_path / "in/a.png")
    writer = cv2.VideoWriter(str(tmp_path / "in/v.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (32, 16))
    for _ in range(3):
        writer.write(np.full((16, 32, 3), 50, np.uint8))
    writer.release()
    summary = files.enhance_files([tmp_path / "in"], tmp_path / "out", Doubler())
    assert (summary.images, summary.videos, summary.frames, summary.exit_code) == (1, 1, 3, 0)
    again = files.enhance_files([tmp_path / "in"], tmp_path / "out", Doubler())
    assert [path.rpartition("/")[2] for path, _ in again.failed] == ["a.png", "v.mp4"]
