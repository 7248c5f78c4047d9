"""A segmentation network as picture -> map of classes, at any size in bounded memory."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import cv2
import numpy as np

from tfllv import config as configs
from tfllv import contracts, models
from tfllv.ops import palette
from tfllv.runner import networks

WEIGHTS = "final.weights.h5"
# A network that is trained on crops sees pictures at up to this many pixels; larger ones are made smaller.
MOST_PIXELS = 1_000_000


class Segmenter:
    """[H, W, 3] uint8 -> [H, W] uint8 class numbers.

    A network trained on whole pictures squeezed to a square gets them so; one trained on crops gets them at their own
    size, up to `MOST_PIXELS`. The classes' probabilities are enlarged (bilinear), then the largest is taken.

    Args:
      run: the folder of a finished `tfllv train` run of a network with `logits`.
      size: side of the square that pictures are squeezed to; 0: that of the training.

    Attributes:
      classes: their number.

    Raises:
      ValueError: if the run is of a network without classes, or its weights do not fit.
      OSError: if the folder is not a finished run.
    """

    def __init__(self, run: str | os.PathLike[str], *, size: int = 0):
        folder = pathlib.Path(run)
        for name in ("config.yaml", WEIGHTS):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"`model` must be the folder of a finished `tfllv train` run. Received: '{folder}', without {name}."
                )
        config: Any = configs.load(folder / "config.yaml")
        if config.experiment != "multitask" or config.tasks == "enhancement":
            raise ValueError(
                f"`model` must be a run of a network with classes. Received: '{folder}', experiment "
                f"{config.experiment}{', enhancement alone' if config.experiment == 'multitask' else ''}."
            )
        self.classes = config.num_classes
        self._square = size or (config.image_size if config.image_fit == "resize" else 0)
        self._model = models.build(
            config.model,
            num_classes=config.num_classes,
            width=config.width,
            shared_blocks=config.shared_blocks,
            tasks=config.tasks,
            weights="none",
            variant="v1" if config.encoder == "imagenet" else None,
        )
        networks.load_weights(self._model, config.model, str(folder / WEIGHTS))

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Returns the classes of one picture."""
        height, width = picture.shape[:2]
        logits = self._logits(self._fit(picture))
        return enlarge_classes(logits, height, width)

    def _fit(self, picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        if self._square:
            return cv2.resize(picture, (self._square, self._square), interpolation=cv2.INTER_AREA)
        scale = min(1.0, (MOST_PIXELS / (height * width)) ** 0.5)
        if scale == 1:
            return picture
        target = max(1, round(width * scale)), max(1, round(height * scale))
        return cv2.resize(picture, target, interpolation=cv2.INTER_AREA)

    def _logits(self, picture: np.ndarray) -> np.ndarray:
        return np.asarray(self._model(contracts.to_float(picture)[None], training=False)[contracts.LOGITS])[0]


def enlarge_classes(logits: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns the largest class of [h, w, C] logits, enlarged as probabilities: [height, width] uint8.

    One class at a time: all at once would take C floats a pixel of the result.
    """
    exponent = np.exp(logits - logits.max(-1, keepdims=True))
    shares = exponent / exponent.sum(-1, keepdims=True)
    best = np.full((height, width), -1, np.float32)
    labels = np.zeros((height, width), np.uint8)
    for index in range(shares.shape[-1]):
        share = cv2.resize(np.ascontiguousarray(shares[..., index]), (width, height), interpolation=cv2.INTER_LINEAR)
        larger = share > best
        best[larger], labels[larger] = share[larger], index
    return labels


def draw_overlay(picture: np.ndarray, labels: np.ndarray, *, strength: float = 0.5) -> np.ndarray:
    """Returns [H, W, 3] uint8: the picture under the colours of its classes, with their borders drawn.

    Args:
      picture: [H, W, 3] uint8.
      labels: [H, W] class numbers.
      strength: of the colours, in [0, 1].
    """
    colours = contracts.to_uint8(palette.class_colors())[labels]
    mixed = cv2.addWeighted(picture, 1 - strength, colours, strength, 0)
    across = np.zeros(labels.shape, bool)
    across[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    across[1:] |= labels[1:] != labels[:-1]
    mixed[across] = 255
    return mixed


def draw_legend(names: list[str], shares: np.ndarray) -> np.ndarray:
    """Returns a picture of the classes' colours, names and shares, largest first: [H, W, 3] uint8.

    Args:
      names: of the classes.
      shares: [C] of all pixels; classes without any are left out.
    """
    from PIL import Image, ImageDraw, ImageFont

    order = [index for index in np.argsort(-shares, kind="stable") if shares[index] > 0]
    font = ImageFont.load_default(20)
    lines = [f"{names[index]}  {100 * shares[index]:.1f} %" for index in order]
    width = 70 + int(max((font.getlength(line) for line in lines), default=0))
    image = Image.new("RGB", (width, 16 + 34 * len(lines)), "white")
    draw = ImageDraw.Draw(image)
    colours = contracts.to_uint8(palette.class_colors())
    for row, (index, line) in enumerate(zip(order, lines, strict=True)):
        top = 8 + 34 * row
        draw.rectangle((12, top + 3, 42, top + 29), fill=tuple(colours[index].tolist()), outline="black")
        draw.text((54, top + 4), line, fill="black", font=font)
    return np.asarray(image)


def encode_labels(labels: np.ndarray) -> bytes:
    """Returns a palette PNG whose values are the class numbers, shown in their colours."""
    import io

    from PIL import Image

    image = Image.fromarray(labels, "L").copy()
    image = image.convert("P")
    image.putdata(labels.ravel())
    image.putpalette(contracts.to_uint8(palette.class_colors()).ravel().tolist())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def read_names(path: str | os.PathLike[str] | None, classes: int) -> list[str]:
    """Returns the classes' names from a text file, a name a line, or `class N` for each.

    Raises:
      ValueError: if the file has another number of lines.
      OSError: if it cannot be read.
    """
    if path is None:
        return [f"class {index}" for index in range(classes)]
    names = [line.strip() for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    if len(names) != classes:
        raise ValueError(f"`classes` must name {classes} classes, one a line. Received: '{path}' with {len(names)}.")
    return names
