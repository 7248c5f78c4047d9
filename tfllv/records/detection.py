"""One picture with its objects -> one record: the pure function behind every detection source and every runner."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import struct
from typing import Any

import numpy as np

from tfllv import contracts
from tfllv.ops import darken
from tfllv.records import files, images, masks, schema
from tfllv.records.problems import Problem, Report, Where
from tfllv.records.shards import Built

OUT_OF_BOUNDS = ("clip", "drop")
DARK_FORMATS = ("png", "jpeg")


@dataclasses.dataclass(frozen=True)
class Thing:
    """One annotated object.

    Attributes:
      box: (xmin, ymin, xmax, ymax) in pixels, as the source has it.
      label: class id of the label map, from 1.
      text: class name.
      where: its place in the input.
      field: the name of it there, such as `annotations[7]`.
      is_crowd: whether it stands for many.
      area: in pixels, of the mask where the source has one; None: that of the box.
      segmentation: COCO's polygons or run lengths, as JSON values, or None.
    """

    box: tuple[float, float, float, float]
    label: int
    text: str
    where: Where
    field: str = "box"
    is_crowd: bool = False
    area: float | None = None
    segmentation: Any = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(frozen=True)
class Item:
    """One picture with its objects, before the picture is read.

    Attributes:
      key: unique in its set; decides the shard and the seed, and is the record's `image/source_id`.
      image: the picture's path, or its bytes.
      filename: as written into the record.
      things: its objects.
      where: of the picture in the input.
      size: (width, height) that the source says, or None.
      extra: more features of the schema: lighting, indoor, split, image class.
      digest: of the annotation file where the objects have segmentations: it stands for them in the fingerprint of a
        shard, because writing out millions of coordinates for that would take longer than reading them.
    """

    key: str
    image: str | bytes
    filename: str
    things: tuple[Thing, ...]
    where: Where
    size: tuple[int, int] | None = None
    extra: tuple[tuple[str, Any], ...] = ()
    digest: str = ""

    def files(self) -> list[str]:
        """Returns the paths that the record depends on."""
        return [self.image] if isinstance(self.image, str) else []


@dataclasses.dataclass(frozen=True)
class DetectionBuilder:
    """Builds records of pictures with objects.

    Attributes:
      include_masks: write `image/object/mask`; an object without a usable mask is then skipped.
      semantic_masks: write one map of class ids a picture, painted from the masks: 0 background, 255 crowd.
      out_of_bounds: what becomes of a box that leaves the picture: `clip` it, or `drop` the object as TFOD does.
      darken: a recipe's name, or '': the dark picture is then `image/encoded`, the clean one `image/paired/encoded`.
      seed: of the recipe; each picture draws from (seed, key).
      dark_format: of the dark picture: `png` keeps its noise as it is, `jpeg` is a third of the size.
      rows: give the boxes as table rows (filename, width, height, class, xmin, ymin, xmax, ymax).
    """

    include_masks: bool = False
    semantic_masks: bool = False
    out_of_bounds: str = "clip"
    darken: str = ""
    seed: int = 0
    dark_format: str = "png"
    rows: bool = False

    def __post_init__(self) -> None:
        if self.out_of_bounds not in OUT_OF_BOUNDS:
            raise ValueError(
                f"`out_of_bounds` must be one of {', '.join(OUT_OF_BOUNDS)}. Received: '{self.out_of_bounds}'."
            )
        if self.dark_format not in DARK_FORMATS:
            raise ValueError(f"`dark_format` must be one of {', '.join(DARK_FORMATS)}. Received: '{self.dark_format}'.")
        if self.darken:
            darken.check_options(self.darken, {})

    def __call__(self, item: Item) -> Built:
        """Builds one record.

        Args:
          item: the picture and its objects.

        Returns:
          The record, or none where the picture cannot be used, with the problems found.
        """
        report = Report()
        try:
            data = files.read(item.image) if isinstance(item.image, str) else item.image
            picture = images.take(data)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            report.add(item.where, "image", "picture skipped", f"{item.filename}: {reason}")
            return Built(None, tuple(report))
        if item.size not in (None, (picture.width, picture.height)):
            detail = f"{item.filename} has {picture.width}x{picture.height} pixels, the annotation says {item.size}"
            report.add(item.where, "size", "picture skipped", detail)
            return Built(None, tuple(report))
        things = check_boxes(item.things, picture.width, picture.height, report, self.out_of_bounds)
        features = self._picture_features(item, picture) | dict(item.extra)
        features |= self._object_features(things, picture, report)
        return Built(schema.serialize(features), tuple(report), self._rows(item, features))

    def _picture_features(self, item: Item, picture: images.Encoded) -> dict[str, Any]:
        features: dict[str, Any] = {}
        if self.darken:
            clean, picture = picture, self._darken(item, picture)
            features = {
                schema.PAIRED_ENCODED: clean.data,
                schema.PAIRED_FORMAT: clean.kind,
                schema.PAIRED_FILENAME: item.filename,
                schema.DARKEN_RECIPE: self.darken,
                schema.DARKEN_SEED: seed_of(self.seed, item.key),
            }
        return features | {
            schema.ENCODED: picture.data,
            schema.FORMAT: picture.kind,
            schema.HEIGHT: picture.height,
            schema.WIDTH: picture.width,
            schema.FILENAME: item.filename,
            schema.SOURCE_ID: item.key,
            schema.SHA256: hashlib.sha256(picture.data).hexdigest(),
        }

    def _darken(self, item: Item, picture: images.Encoded) -> images.Encoded:
        clean = contracts.to_float(images.decode(picture.data))
        dark = np.asarray(darken.darken(clean, self.darken, seed_of(self.seed, item.key)))
        return images.encode(contracts.to_uint8(dark), self.dark_format)

    def _object_features(self, things: list[Thing], picture: images.Encoded, report: Report) -> dict[str, Any]:
        decoded: list[masks.Region] = []
        if self.include_masks or self.semantic_masks:
            things, decoded = _decode_masks(things, picture, report)
        boxes = np.array([thing.box for thing in things], np.float64).reshape(-1, 4)
        boxes /= (picture.width, picture.height, picture.width, picture.height)
        areas = [(t.box[2] - t.box[0]) * (t.box[3] - t.box[1]) if t.area is None else t.area for t in things]
        features: dict[str, Any] = {
            schema.XMIN: boxes[:, 0],
            schema.YMIN: boxes[:, 1],
            schema.XMAX: boxes[:, 2],
            schema.YMAX: boxes[:, 3],
            schema.CLASS_TEXT: [thing.text for thing in things],
            schema.CLASS_LABEL: [thing.label for thing in things],
            schema.IS_CROWD: [thing.is_crowd for thing in things],
            schema.AREA: areas,
        }
        if self.include_masks:
            features[schema.MASK] = [masks.encode_mask(region, picture.height, picture.width) for region in decoded]
        if self.semantic_masks:
            labels = [contracts.IGNORE_LABEL if thing.is_crowd else thing.label for thing in things]
            classes = masks.paint(list(zip(decoded, labels, strict=True)), picture.height, picture.width)
            features |= {schema.SEMANTIC_ENCODED: masks.encode_classes(classes), schema.SEMANTIC_FORMAT: "png"}
        return features

    def _rows(self, item: Item, features: dict[str, Any]) -> tuple[tuple[Any, ...], ...]:
        if not self.rows:
            return ()
        width, height = features[schema.WIDTH], features[schema.HEIGHT]
        scale = {schema.XMIN: width, schema.YMIN: height, schema.XMAX: width, schema.YMAX: height}
        columns = [np.rint(features[key] * factor).astype(int).tolist() for key, factor in scale.items()]
        rows = zip(features[schema.CLASS_TEXT], *columns, strict=True)
        return tuple((item.filename, width, height, *row) for row in rows)


def _decode_masks(
    things: list[Thing], picture: images.Encoded, report: Report
) -> tuple[list[Thing], list[masks.Region]]:
    kept, decoded = [], []
    for thing in things:
        try:
            decoded.append(masks.decode_region(thing.segmentation, picture.height, picture.width))
            kept.append(thing)
        except ValueError as error:
            report.add(thing.where, f"{thing.field}.segmentation", "object skipped: mask", str(error))
    return kept, decoded


def check_boxes(
    things: tuple[Thing, ...], width: int, height: int, report: Report, out_of_bounds: str = "clip"
) -> list[Thing]:
    """Checks the boxes of a picture.

    A box that leaves the picture is clipped to it or its object dropped; a box that is empty, upside down or wholly
    outside is always dropped. Each is reported.

    Args:
      things: the objects.
      width: of the picture, pixels.
      height: of the picture, pixels.
      report: problems are added to it.
      out_of_bounds: `clip` or `drop`.

    Returns:
      The objects that are left, boxes inside the picture and not empty.
    """
    kept = []
    for thing in things:
        xmin, ymin, xmax, ymax = thing.box
        text = f"({xmin:g}, {ymin:g}, {xmax:g}, {ymax:g}) in {width}x{height} pixels"
        if not (all(map(math.isfinite, thing.box)) and xmin < xmax and ymin < ymax):
            report.add(thing.where, thing.field, "object skipped: empty box", text)
            continue
        inside = (max(xmin, 0.0), max(ymin, 0.0), min(xmax, float(width)), min(ymax, float(height)))
        if inside[0] >= inside[2] or inside[1] >= inside[3]:
            report.add(thing.where, thing.field, "object skipped: box outside", text)
        elif not _has_area(inside, width, height):
            report.add(thing.where, thing.field, "object skipped: empty box", f"{text}: too thin for float32")
        elif inside == thing.box:
            kept.append(thing)
        elif out_of_bounds == "drop":
            report.add(thing.where, thing.field, "object skipped: box leaves the picture", text)
        else:
            report.add(thing.where, thing.field, "box clipped", text)
            kept.append(dataclasses.replace(thing, box=inside))
    return kept


def _has_area(box: tuple[float, float, float, float], width: int, height: int) -> bool:
    """Whether a box is still one in a record, whose coordinates are normalised float32."""
    xmin, ymin, xmax, ymax = struct.unpack(
        "4f", struct.pack("4f", *(v / s for v, s in zip(box, (width, height) * 2, strict=True)))
    )
    return bool(xmin < xmax and ymin < ymax)


def seed_of(seed: int, key: str) -> int:
    """Returns the seed of one picture: the same for any order, number of workers or runner; 31 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed} {key}".encode("utf-8", "surrogatepass")).digest()[:4], "big") >> 1


__all__ = ["DARK_FORMATS", "OUT_OF_BOUNDS", "DetectionBuilder", "Item", "Problem", "Thing", "check_boxes", "seed_of"]
