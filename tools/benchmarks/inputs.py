"""The training pipeline against the bare decode bound."""

from __future__ import annotations

import functools
import pathlib
import tempfile
import time

import cv2
import tensorflow as tf

from benchmarks import timing

SAMPLES = pathlib.Path(__file__).parents[2] / "tfllv" / "samples"
_COUNT, _BATCH, _WORKERS, _EPOCHS = 96, 8, 4, 8


def inputs() -> list[dict]:
    """Crops of 256 from 640x480 JPEG files, against decoding the same files and nothing else.

    The bound is `tf.io.decode_jpeg` (INTEGER_ACCURATE) in a parallel `tf.data` map: whole pictures, while a pipeline
    that knows its crop before may leave the rest of a picture undecoded. Nothing is cached on either side. Building a
    pipeline, which a training run does once, is not counted but is a column of its own.
    """
    from tfllv.inputs import pipeline

    with tempfile.TemporaryDirectory() as folder:
        pictures = [cv2.resize(cv2.imread(str(path)), (640, 480)) for path in sorted(SAMPLES.glob("*.jpg"))]
        paths = [pathlib.Path(folder) / f"{number:03}.jpg" for number in range(_COUNT)]
        for number, path in enumerate(paths):
            cv2.imwrite(str(path), pictures[number % len(pictures)])

        def decode(path: tf.Tensor) -> tf.Tensor:
            return tf.io.decode_jpeg(tf.io.read_file(path), channels=3, dct_method="INTEGER_ACCURATE")

        def bare() -> tf.data.Dataset:
            names = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
            return names.repeat(_EPOCHS).map(decode, num_parallel_calls=_WORKERS)

        def crops(augment: bool) -> tf.data.Dataset:
            source = pipeline.ImageSource({"low": paths}, size=256, fit="crop", cache_mb=0)
            options = {"batch_size": _BATCH, "num_workers": _WORKERS, "stop_step": _EPOCHS * _COUNT // _BATCH}
            return pipeline.training_batches(source, seed=0, augment=augment, **options)

        made, building = {}, {}
        makers = {"bare decode": bare, "crops": lambda: crops(False), "crops, flips and turns": lambda: crops(True)}
        for name, make in makers.items():
            start = time.perf_counter()
            made[name] = make()
            building[name] = time.perf_counter() - start
        sides = {name: functools.partial(_read_all, dataset) for name, dataset in made.items()}
        seconds = timing.interleave(sides, rounds=9, warm_up=1)
    return [
        {
            "side": name,
            "images_per_s": _EPOCHS * _COUNT / value,
            "share of the bound": seconds["bare decode"] / value,
            "building_ms": building[name] * 1e3,
        }
        for name, value in seconds.items()
    ]


def _read_all(dataset: tf.data.Dataset) -> None:
    for _ in dataset:
        pass
