"""Synthetic darkening from JPEG files: `tf.data` with the recipes against the published way of one of them."""

from __future__ import annotations

import os
import pathlib
import tempfile

import cv2
import numpy as np

from benchmarks import timing

SAMPLES = pathlib.Path(__file__).parents[2] / "tfllv" / "samples"
_SIZE = (640, 480)
_COPIES = 2
_EPOCHS = 8  # of the pipelines: a round of theirs takes about as long as one of the published way


def darken() -> list[dict]:
    """Every recipe in `tf.data`, from JPEG files of 640x480, against the published ways of two of them.

    One is the instance-segmentation project's script: Pillow, scikit-image and two JPEG files a picture, one picture
    after the other. Of the statistical recipe's script only its bilateral filter is timed, on all cores.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = _write_photographs(pathlib.Path(folder))
        linear = np.random.default_rng(0).random((_SIZE[1], _SIZE[0], 3), np.float32)
        filtered = {"d": 31, "sigmaColor": 0.1, "sigmaSpace": 8.0}
        # Side -> (what is timed, pictures of one call).
        sides = {
            "published gamma_noise": (lambda: _darken_by_files(paths, pathlib.Path(folder)), len(paths)),
            "filter of published statistical": (lambda: cv2.bilateralFilter(linear, **filtered), 1),
        }
        for name in ("gamma_noise", "photographic", "raw", "statistical", None):
            sides[name or "decode alone"] = (_dataset_call(paths, name), _EPOCHS * len(paths))
        seconds = timing.interleave({name: call for name, (call, _) in sides.items()}, rounds=15, warm_up=1)
    rates = {name: count / seconds[name] for name, (_, count) in sides.items()}
    published = rates["published gamma_noise"]
    return [
        {"side": name, "images_per_s": rate, "ms_per_image": 1e3 / rate, "side / published": rate / published}
        for name, rate in rates.items()
    ]


def _write_photographs(folder: pathlib.Path) -> list[pathlib.Path]:
    """The bundled photographs as JPEG of quality 90, of the size of COCO's."""
    from PIL import Image

    paths = []
    for copy in range(_COPIES):
        for source in sorted(SAMPLES.glob("*.jpg")):
            paths.append(folder / f"{source.stem}_{copy}.jpg")
            with Image.open(source) as image:
                image.convert("RGB").resize(_SIZE, Image.Resampling.LANCZOS).save(paths[-1], quality=90)
    return paths


def _darken_by_files(paths: list[pathlib.Path], folder: pathlib.Path) -> None:
    """Gamma by a table, saved; read again, noise on [-1, 1], saved: what the project's script does to a folder."""
    from PIL import Image
    from skimage.util import random_noise

    generator = np.random.default_rng(0)
    dark, noisy = folder / "dark.jpg", folder / "noisy.jpg"
    for path in paths:
        gamma, variance = generator.uniform(3, 8), generator.uniform(0.001, 0.01)
        with Image.open(path) as image:
            image.point([int(255.999 * (level / 255) ** gamma) for level in range(256)] * 3).save(dark)
        with Image.open(dark) as image:
            noise = random_noise(np.asarray(image, np.float32) / 127.5 - 1, var=variance, clip=True)
        Image.fromarray(((noise + 1) * 127.5).astype(np.uint8)).save(noisy)


def _dataset_call(paths: list[pathlib.Path], recipe: str | None):
    """Returns a call that reads, decodes and darkens every file `_EPOCHS` times, two at once for each core."""
    import tensorflow as tf

    from tfllv.ops import darken as darkening

    def load(path, number):
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3, dct_method="INTEGER_ACCURATE")
        return image if recipe is None else darkening.darken(image, recipe, tf.stack([1, number]))

    names = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    pairs = tf.data.Dataset.zip(names, tf.data.Dataset.range(len(paths)))
    dataset = pairs.repeat(_EPOCHS).map(load, num_parallel_calls=2 * (os.cpu_count() or 1)).prefetch(2)

    def call() -> None:
        # Counted in TensorFlow, as a training step would take them: a loop here would share Python's lock with recipes.
        dataset.reduce(0, lambda count, _: count + 1).numpy()

    return call
