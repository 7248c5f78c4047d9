"""The training pipeline against the bare decode bound."""

from __future__ import annotations

import pathlib
import tempfile

import cv2
import tensorflow as tf

from benchmarks import timing

SAMPLES = pathlib.Path(__file__).parents[2] / "tfllv" / "samples"
_COUNT, _BATCH, _WORKERS, _EPOCHS = 96, 8, 4, 8  # several epochs, so that tracing does not count


def inputs() -> list[dict]:
    """Crops of 256 from 640x480 JPEG files, against decoding the same files and nothing else.

    The bound is `tf.io.decode_jpeg` (INTEGER_ACCURATE) in a parallel `tf.data` map. Nothing is cached on either side.
    """
    from tfllv.inputs import pipeline

    with tempfile.TemporaryDirectory() as folder:
        pictures = [cv2.resize(cv2.imread(str(path)), (640, 480)) for path in sorted(SAMPLES.glob("*.jpg"))]
        paths = [pathlib.Path(folder) / f"{number:03}.jpg" for number in range(_COUNT)]
        for number, path in enumerate(paths):
            cv2.imwrite(str(path), pictures[number % len(pictures)])

        def decode(path: tf.Tensor) -> tf.Tensor:
            return tf.io.decode_jpeg(tf.io.read_file(path), channels=3, dct_method="INTEGER_ACCURATE")

        names = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
        bare = names.repeat(_EPOCHS).map(decode, num_parallel_calls=_WORKERS)

        def run_pipeline(augment: bool) -> None:
            source = pipeline.ImageSource({"low": paths}, size=256, fit="crop", cache_mb=0)
            steps = _EPOCHS * _COUNT // _BATCH
            batches = pipeline.training_batches(
                source, batch_size=_BATCH, seed=0, stop_step=steps, augment=augment, num_workers=_WORKERS
            )
            for _ in batches:
                pass

        sides = {"bare decode": lambda: [None for _ in bare], "crops": lambda: run_pipeline(False)}
        sides["crops, flips and turns"] = lambda: run_pipeline(True)
        seconds = timing.interleave(sides, rounds=9, warm_up=1)
    return [
        {"side": name, "images_per_s": _EPOCHS * _COUNT / value, "share of the bound": seconds["bare decode"] / value}
        for name, value in seconds.items()
    ]
