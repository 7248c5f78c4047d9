from __future__ import annotations

import struct
import types

import cv2
import numpy as np
import pytest

from tfllv.runner import video


class Brightener:
    """An enhancer of frames that adds 50 and records their order and the smoothing it was asked for."""

    def __init__(self):
        self.method = types.SimpleNamespace(kind="classical")
        self.seen, self.smoothing = [], None

    def stream(self, *, smoothing=0.9):
        self.smoothing = smoothing

        def step(frame):
            assert frame.dtype == np.uint8 and frame.shape[2] == 3
            self.seen.append(frame)
            return np.minimum(frame.astype(int) + 50, 255).astype(np.uint8)

        return step


def make_video(path, *, count=12, size=(64, 48), rate=24.5, code="mp4v", backend=cv2.CAP_FFMPEG):
    """Frames that grow brighter, red on the left and blue on the right."""
    writer = cv2.VideoWriter(str(path), backend, cv2.VideoWriter.fourcc(*code), rate, size)
    assert writer.isOpened()
    for index in range(count):
        frame = np.zeros((size[1], size[0], 3), np.uint8)
        frame[:, : size[0] // 2, 2] = 100 + (5 * index) % 100
        frame[:, size[0] // 2 :, 0] = 100 + (5 * index) % 100
        writer.write(frame)
    writer.release()
    return path


def read_video(path):
    capture = cv2.VideoCapture(str(path))
    facts = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    frames = []
    while True:
        there, frame = capture.read()
        if not there:
            return np.array(frames)[..., ::-1], *facts
        frames.append(frame)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm"])
def test_every_container_keeps_frames_rate_and_colours(suffix, tmp_path):
    source, target = make_video(tmp_path / "in.mp4"), tmp_path / f"out{suffix}"
    enhancer = Brightener()
    frames, said = video.enhance_video(source, target, enhancer, smoothing=0.5)
    result, rate, count = read_video(target)
    assert frames == len(result) == count == 12
    assert rate == pytest.approx(24.5, abs=0.01)
    assert enhancer.smoothing == 0.5
    assert said == ["audio, if it has any, is not kept"]
    expected = np.minimum(np.array(enhancer.seen).astype(int) + 50, 255)
    assert result.shape == expected.shape
    assert np.abs(result.astype(int) - expected).mean() < 4
    reds = [frame[:, :30, 0].mean() for frame in enhancer.seen]
    assert reds == sorted(reds) and reds[-1] > reds[0] + 40, "frames came out of order or with swapped channels"


def test_odd_sizes_become_even_by_repeating_the_border(tmp_path):
    source = make_video(tmp_path / "in.avi", size=(63, 47), code="MJPG", backend=cv2.CAP_OPENCV_MJPEG)
    enhancer = Brightener()
    frames, said = video.enhance_video(source, tmp_path / "out.mp4", enhancer)
    assert enhancer.seen[0].shape == (47, 63, 3)
    assert frames == 12
    result = read_video(tmp_path / "out.mp4")[0]
    assert result.shape == (12, 48, 64, 3)
    padded = np.pad(enhancer.seen[0].astype(int) + 50, ((0, 1), (0, 1), (0, 0)), mode="edge")
    assert np.abs(result[0].astype(int) - padded).mean() < 4
    assert np.abs(result[0, :, 63].astype(int) - padded[:, 63]).mean() < 4
    assert any("63x47 became even" in line for line in said)


def test_rotation_of_a_phone_is_applied(tmp_path):
    source = make_video(tmp_path / "in.mp4")
    data = bytearray(source.read_bytes())
    # The matrix of the track header, 40 bytes into a version 0 `tkhd` body: a quarter turn clockwise.
    at = data.find(b"tkhd") + 4 + 40
    assert struct.unpack_from(">9i", data, at) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", data, at, 0, 65536, 0, -65536, 0, 0, 48 << 16, 0, 1 << 30)
    source.write_bytes(data)
    enhancer = Brightener()
    video.enhance_video(source, tmp_path / "out.mp4", enhancer)
    assert enhancer.seen[0].shape == (64, 48, 3)
    assert enhancer.seen[0][10, :, 0].mean() > 80 > enhancer.seen[0][50, :, 0].mean(), "red must be on top"
    assert read_video(tmp_path / "out.mp4")[0].shape == (12, 64, 48, 3)


@pytest.mark.parametrize("content", [b"", b"not a video" * 100])
def test_what_is_no_video_is_named_and_nothing_is_left(content, tmp_path, capfd):
    source = tmp_path / "in.mp4"
    source.write_bytes(content)
    with pytest.raises(ValueError, match=r"in\.mp4: no frame of a video found; expected"):
        video.enhance_video(source, tmp_path / "out.mp4", Brightener())
    assert list(tmp_path.iterdir()) == [source]


def test_a_video_that_is_cut_short_is_named_and_nothing_is_left(tmp_path, capfd):
    source = make_video(tmp_path / "in.avi", count=60, code="MJPG")
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"in\.avi: \d+ readable frames found; expected 60|no frame of a video"):
        video.enhance_video(source, tmp_path / "out.mp4", Brightener())
    assert list(tmp_path.iterdir()) == [source]


def test_a_missing_source_or_folder_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        video.enhance_video(tmp_path / "none.mp4", tmp_path / "out.mp4", Brightener())
    source = make_video(tmp_path / "in.mp4")
    with pytest.raises(FileNotFoundError):
        video.enhance_video(source, tmp_path / "none/out.mp4", Brightener())


def test_unknown_container_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`target` must end in .* Received: '\.gif'"):
        video.enhance_video(make_video(tmp_path / "in.mp4"), tmp_path / "out.gif", Brightener())


def test_a_frame_that_fails_leaves_the_old_output(tmp_path):
    source = make_video(tmp_path / "in.mp4")
    target = tmp_path / "out.mp4"
    target.write_bytes(b"old")
    enhancer = Brightener()

    def stream(*, smoothing):
        def step(frame):
            enhancer.seen.append(frame)
            if len(enhancer.seen) == 5:
                raise ValueError("frame 5")
            return frame

        return step

    enhancer.stream = stream
    with pytest.raises(ValueError, match="frame 5"):
        video.enhance_video(source, target, enhancer)
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_a_disk_that_fills_up_is_noticed(tmp_path, monkeypatch):
    source = make_video(tmp_path / "in.mp4")
    opened = video._open_writer

    class Lossy:
        """Stands for a writer whose disk is full: OpenCV's does not say so."""

        def __init__(self, path, *arguments):
            self.path, self.inner = path, opened(path, *arguments)

        def write(self, frame):
            self.inner.write(frame)

        def release(self):
            self.inner.release()
            self.path.write_bytes(self.path.read_bytes()[:500])

    monkeypatch.setattr(video, "_open_writer", Lossy)
    with pytest.raises(OSError, match=r"out\.mp4: the video could not be written"):
        video.enhance_video(source, tmp_path / "out.mp4", Brightener())
    assert list(tmp_path.iterdir()) == [source]
