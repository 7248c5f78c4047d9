"""Pictures with labels for training: a map of classes each, or one class each.

A source here is a `pipeline.ImageSource`, so order, crops and flips are the same pure function of (seed, step), and a
map is cut and turned with its picture.
"""

from __future__ import annotations

import pathlib
import types
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import cv2
import numpy as np
import tensorflow as tf

from tfllv import contracts
from tfllv.inputs import files, image_header, pipeline, transforms
from tfllv.records import exdark, problems


class SegmentationSource(pipeline.ImageSource):
    """Pictures with maps of classes: an example has `low` and `mask`, [H, W] int32 with `IGNORE_LABEL` for no class.

    Args:
      images: N paths.
      masks: N paths of grey or palette PNG files whose values are class ids, each of its picture's size.
      num_classes: ids are 0 to num_classes - 1.
      void: further ids that mean "no class", such as 11 in CamVid; 255 always does.
      size: side of the training images in pixels.
      fit: as `ImageSource`; maps are resized to the nearest pixel, so no class is invented.
      cache_mb: as `ImageSource`.
      picture: the pictures' key.
      beside: further pictures of the same scenes and sizes by key, such as dark ones.

    Attributes:
      num_classes: as given.
      ids: [256] what each value of a map means, see `read_map`.

    Raises:
      ValueError: naming the file: at once if a picture and its map differ in size, when it is read if a map has other
        ids or is no map.
    """

    def __init__(
        self,
        images: Sequence[pathlib.Path],
        masks: Sequence[pathlib.Path],
        *,
        num_classes: int,
        void: Sequence[int] = (),
        size: int,
        fit: str = "resize",
        cache_mb: int = 2000,
        picture: str = contracts.LOW,
        beside: Mapping[str, Sequence[pathlib.Path]] = types.MappingProxyType({}),
    ):
        columns = {picture: images, **beside, contracts.MASK: masks}
        super().__init__(columns, size=size, fit=fit, cache_mb=cache_mb)
        self.num_classes = num_classes
        self.ids = class_ids(num_classes, void)

    def _check_columns(self, columns: Mapping[str, Sequence[pathlib.Path]]) -> list[image_header.Header]:
        headers = super()._check_columns(columns)
        for image, *others in zip(*columns.values(), strict=True):
            _check_sizes(image, others)
        return headers

    def _open(self, key: str, path: pathlib.Path) -> np.ndarray:
        if key != contracts.MASK:
            return super()._open(key, path)
        return fit_map(read_map(path, self.ids), self.size, mode=self.fit)

    def load(self, index: tf.Tensor, seed: tf.Tensor | None = None) -> transforms.Example:
        """As `ImageSource.load`, the map as int32."""
        example = super().load(index, seed)
        return example | {contracts.MASK: tf.cast(example[contracts.MASK], tf.int32)}


class ClassificationSource(pipeline.ImageSource):
    """Pictures with one class each: an example has `low` and `label`, [] int32.

    Args:
      images: N paths.
      labels: N class numbers, >= 0.
      size: side of the training images in pixels.
      fit: as `ImageSource`.
      cache_mb: as `ImageSource`.

    Raises:
      ValueError: if the numbers of pictures and labels differ, or a label is negative.
    """

    def __init__(
        self,
        images: Sequence[pathlib.Path],
        labels: Sequence[int],
        *,
        size: int,
        fit: str = "resize",
        cache_mb: int = 2000,
    ):
        if len(images) != len(labels) or any(label < 0 for label in labels):
            raise ValueError(
                f"`labels` must be one number >= 0 for each of {len(images)} pictures. Received: {len(labels)} labels, "
                f"the least {min(labels, default=0)}."
            )
        super().__init__({contracts.LOW: images}, size=size, fit=fit, cache_mb=cache_mb)
        self.keys = (contracts.LOW, contracts.LABEL)
        self.labels = np.asarray(labels, np.int32)

    def read_centre(self, key: str, index: int) -> np.ndarray:
        """As `ImageSource.read_centre`; the label as [] int32."""
        return np.array(self.labels[index]) if key == contracts.LABEL else super().read_centre(key, index)

    def load(self, index: tf.Tensor, seed: tf.Tensor | None = None) -> transforms.Example:
        """As `ImageSource.load`, with the label."""
        return super().load(index, seed) | {contracts.LABEL: tf.constant(self.labels)[index]}


def find_maps(images: str | pathlib.Path, masks: str | pathlib.Path) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """Returns the pictures of a folder and their maps of another, matched by name without ending, in one order.

    Raises:
      ValueError: naming the first picture that has no map.
      OSError: if a folder is missing or holds no picture.
    """
    maps = {path.stem: path for path in files.find_images(masks, name="masks")}
    found = files.find_images(images, name="images")
    for path in found:
        if path.stem not in maps:
            raise ValueError(f"`masks` must have a map for each picture. Received: none for {path} in '{masks}'.")
    return found, [maps[path.stem] for path in found]


def find_exdark(
    data_dir: str | pathlib.Path, split: str, *, class_list: str | pathlib.Path | None = None
) -> tuple[list[pathlib.Path], list[int], list[int]]:
    """Returns ExDark's pictures of one official split for classification, those that are there, in the list's order.

    Args:
      data_dir: holds `ExDark/<Class>/`.
      split: `train`, `val` or `test`.
      class_list: imageclasslist.txt; None: in `data_dir`.

    Returns:
      Paths, class numbers 0 (Bicycle) to 11 (Table), lighting types 1 to 10.

    Raises:
      ValueError: if the split is unknown, the list has a wrong line, or no picture of the split is there.
    """
    if split not in exdark.SPLITS:
        raise ValueError(f"`split` must be one of {', '.join(exdark.SPLITS)}. Received: split='{split}'.")
    data_dir = pathlib.Path(data_dir)
    report = problems.Report()
    listed = exdark.read_class_list(class_list or data_dir / "imageclasslist.txt", report)
    if len(report):
        raise ValueError(f"`class_list` must be whole. Received: {next(iter(report))} ({len(report)} problems in all).")
    there = {path.stem: path for path in files.find_images(data_dir / "ExDark", name="data_dir")}
    rows = [(there[stem], line) for stem, line in listed.items() if line.split == split and stem in there]
    if not rows:
        raise ValueError(f"`data_dir` must hold pictures of split '{split}'. Received: '{data_dir}', which has none.")
    return [path for path, _ in rows], [line.label - 1 for _, line in rows], [line.lighting for _, line in rows]


def read_map(path: pathlib.Path | BinaryIO, ids: np.ndarray, *, name: str = "") -> np.ndarray:
    """Reads a map of classes: [H, W] uint8.

    Args:
      path: a grey or palette PNG file; the values (of a palette: the indices) are class ids.
      ids: [256] what each value means; -1 where it is out of range.
      name: what it is called in messages; default: its path.

    Raises:
      ValueError: naming the file, if it is no map, or holds an id out of range.
      OSError: if it cannot be read.
    """
    from PIL import Image

    name = name or str(path)
    with Image.open(path) as image:
        if image.mode not in ("L", "P", "1"):
            raise ValueError(f"{name}: expected a map of class ids, grey or palette with 8 bits; found {image.mode}.")
        values = np.asarray(image.convert("L") if image.mode == "1" else image, np.uint8)
    result = ids[values]
    if (result < 0).any():
        wrong = int(values[result < 0][0])
        raise ValueError(
            f"{name}: expected class ids 0 to {int(ids[ids < contracts.IGNORE_LABEL].max())}; found {wrong}."
        )
    return result.astype(np.uint8)


def class_ids(num_classes: int, void: Sequence[int]) -> np.ndarray:
    """Returns what each of 256 values means: its class, `IGNORE_LABEL`, or -1."""
    if not 1 <= num_classes <= contracts.IGNORE_LABEL:
        raise ValueError(f"`num_classes` must be from 1 to 255. Received: num_classes={num_classes}.")
    ids = np.full(256, -1)
    ids[:num_classes] = np.arange(num_classes)
    ids[[*void, contracts.IGNORE_LABEL]] = contracts.IGNORE_LABEL
    return ids


def _check_sizes(image: pathlib.Path, others: Sequence[pathlib.Path]) -> None:
    """Raises ValueError unless a picture's map, the last, and what stands beside it have its size."""
    width, height = image_header.read_header(image).upright_size
    for other in others:
        found = image_header.read_header(other).upright_size
        if found != (width, height):
            name = "masks" if other is others[-1] else "dark"
            raise ValueError(
                f"`{name}` must have their pictures' sizes. Received: {other} of {found[0]}x{found[1]} for {image} of "
                f"{width}x{height}."
            )


def fit_map(mask: np.ndarray, size: int, *, mode: str) -> np.ndarray:
    """Makes a map ready to be stored, as `files.fit` a picture, to the nearest pixel."""
    height, width = mask.shape
    scale = max(1.0, size / min(height, width))
    target = (size, size) if mode == "resize" else (max(size, round(width * scale)), max(size, round(height * scale)))
    return mask if target == (width, height) else cv2.resize(mask, target, interpolation=cv2.INTER_NEAREST_EXACT)
