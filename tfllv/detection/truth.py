"""What is really in the pictures: ground truth from COCO's annotations, ExDark's folders or TFRecords, in one form.

Boxes are in pixels of the picture as it is stored, as COCO's evaluation takes them. No TensorFlow is needed.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from tfllv.detection import results
from tfllv.records import coco, detection, exdark, files, framing, images, masks, schema, shards
from tfllv.records.problems import Report

# Records hold normalised float32: rounded to this many decimals, boxes are again those that were annotated.
_RECORD_DECIMALS = 3
# COCO's width is xmax - xmin here, which in floating point is not always the number it was added from.
_DECIMALS = 9


@dataclasses.dataclass(frozen=True)
class TruthImage:
    """One picture and its objects.

    Attributes:
      file: its name, by which detections find it.
      width: in pixels.
      height: in pixels.
      boxes: [N, 4] float64, (left, top, width, height) in pixels.
      classes: [N] int64, ids of the label map.
      areas: [N] float64 in pixels, of the mask where there is one: they decide what is small, medium and large.
      crowd: [N] bool: stands for many; neither found nor missed.
      masks: N run lengths `{"size", "counts"}`, or None.
      lighting: 1 to 10, see `exdark.LIGHTING`; 0: not known.
      indoor: whether it was taken indoors; None: not known.
      read: returns its encoded bytes, or None where only the annotations are at hand.
    """

    file: str
    width: int
    height: int
    boxes: np.ndarray
    classes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    masks: tuple[Mapping[str, Any], ...] | None = None
    lighting: int = 0
    indoor: bool | None = None
    read: Callable[[], bytes] | None = None

    def pixels(self) -> np.ndarray:
        """Decodes the picture to [H, W, 3] uint8, as stored: an Exif orientation is not applied, as in records.

        Raises:
          ValueError: if it is broken, or there is none.
          OSError: if it cannot be read.
        """
        if self.read is None:
            raise ValueError(f"{self.file}: the picture is not at hand; name its folder with --image_dir.")
        try:
            return images.decode(self.read())
        except ValueError as error:
            raise ValueError(f"{self.file}: {error}") from None


@dataclasses.dataclass(frozen=True)
class Truth:
    """The ground truth of a set of pictures.

    Attributes:
      label_map: class id -> name.
      images: the pictures, each file once.
    """

    label_map: Mapping[int, str]
    images: tuple[TruthImage, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for image in self.images:
            if image.file in seen:
                raise ValueError(f"the ground truth must hold each file once. Received: '{image.file}' twice.")
            seen.add(image.file)

    @property
    def has_lighting(self) -> bool:
        """Whether the lighting of any picture is known."""
        return any(image.lighting for image in self.images)

    @property
    def has_masks(self) -> bool:
        """Whether all objects have masks."""
        return all(image.masks is not None for image in self.images if len(image.boxes)) and any(
            image.masks for image in self.images
        )


def from_coco(
    path: str | os.PathLike[str],
    report: Report,
    *,
    image_dir: str | None = None,
    labels: Mapping[int, str] | None = None,
    masks_too: bool = False,
) -> Truth:
    """Reads COCO's instance annotations; boxes and areas stay as they are in the file.

    Args:
      path: `instances_*.json`.
      report: problems are added to it; such an object or picture is skipped.
      image_dir: the pictures' folder; without it there are annotations only.
      labels: class id -> name; other classes of the file are left out. None: the file's own classes and ids.
      masks_too: read the segmentations.

    Raises:
      ValueError: naming file and line, if it is not such a file.
      OSError: if it cannot be read.
    """
    chosen = None if labels is None else {name: number for number, name in labels.items()}
    items, numbers = coco.read_coco(path, image_dir or "", report, labels=chosen, masks=masks_too)
    found = []
    for item in items:
        assert item.size is not None
        width, height = item.size
        image = _image(item.filename, width, height, item.things, report, masks_too=masks_too)
        found.append(dataclasses.replace(image, read=_reader(str(item.image)) if image_dir else None))
    return Truth({number: name for name, number in numbers.items()}, tuple(found))


def from_exdark(
    data_dir: str | os.PathLike[str],
    report: Report,
    *,
    class_list: str | os.PathLike[str] | None = None,
    split: str = "test",
) -> Truth:
    """Reads ExDark in its own layout; boxes that leave their picture are clipped, as in the records made from it.

    Args:
      data_dir: holds `ExDark` and `ExDark_Annno`.
      report: problems are added to it.
      class_list: where `imageclasslist.txt` is; default: in `data_dir`.
      split: `train`, `val` or `test` of the official split, taking the pictures that are there; or `all`.

    Raises:
      ValueError: if the layout or the list is wrong, or no picture is in the split.
      OSError: if a file cannot be read.
    """
    if split not in (*exdark.SPLITS, "all"):
        raise ValueError(f"`split` must be one of {', '.join(exdark.SPLITS)}, all. Received: split='{split}'.")
    options: dict[str, Any] = {"class_list": class_list, "allow_missing": True}
    if split == "all":
        parts = exdark.read_exdark(data_dir, report, **options, split="random")
        items = sorted((item for part in parts.values() for item in part), key=lambda item: item.key)
    else:
        items = exdark.read_exdark(data_dir, report, **options).get(split, [])
    if not items:
        raise ValueError(f"`split` must name a split that has pictures in {data_dir}. Received: split='{split}'.")
    found = [image for item in items if (image := _exdark_image(item, report)) is not None]
    return Truth({number: name for name, number in exdark.CLASSES.items()}, tuple(found))


def _exdark_image(item: detection.Item, report: Report) -> TruthImage | None:
    read = _reader(str(item.image))
    try:
        width, height = images.size(read())
    except (OSError, ValueError) as error:
        report.add(item.where, "image", "picture skipped", str(error))
        return None
    extra = dict(item.extra)
    things = detection.check_boxes(item.things, width, height, report)
    image = _image(pathlib.PurePath(str(item.image)).name, width, height, things, report)
    indoor = extra.get(schema.INDOOR)
    return dataclasses.replace(
        image,
        read=read,
        lighting=int(str(extra.get(schema.LIGHTING, 0))),
        indoor=None if indoor is None else bool(indoor),
    )


def _image(
    file: str, width: int, height: int, things: Sequence[detection.Thing], report: Report, *, masks_too: bool = False
) -> TruthImage:
    kept, runs = [], []
    for thing in things:
        if masks_too:
            try:
                runs.append(masks.to_runs(thing.segmentation, height, width))
            except ValueError as error:
                report.add(thing.where, f"{thing.field}.segmentation", "object skipped: mask", str(error))
                continue
        kept.append(thing)
    corners = np.array([thing.box for thing in kept], np.float64).reshape(-1, 4)
    boxes = np.round(np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1), _DECIMALS)
    own = boxes[:, 2] * boxes[:, 3]
    areas = [one if thing.area is None else thing.area for thing, one in zip(kept, own, strict=True)]
    return TruthImage(
        file=file,
        width=width,
        height=height,
        boxes=boxes,
        classes=np.array([thing.label for thing in kept], np.int64),
        areas=np.array(areas, np.float64),
        crowd=np.array([thing.is_crowd for thing in kept], bool),
        masks=tuple(runs) if masks_too else None,
    )


def _reader(path: str) -> Callable[[], bytes]:
    return lambda: files.read(path)


def from_records(
    paths: str | Sequence[str], *, labels: Mapping[int, str] | None = None, every: int = 1, masks_too: bool = False
) -> Truth:
    """Reads TFRecords with the features of the TF Object Detection API.

    Every object counts: `difficult` means nothing to COCO's evaluation, neither here nor in TFOD.

    Args:
      paths: shards, patterns of them (`FOLDER/NAME-?????-of-00010`), manifests or `FOLDER/NAME`; one or several.
      labels: class id -> name; None: as the records name them.
      every: take one record of so many, the first of each, counted over all shards.
      masks_too: read the masks.

    Raises:
      ValueError: naming the shard, if one is missing or damaged or a record is not of such features; or naming the
        record, if a class is not in `labels`.
      OSError: if a file cannot be read.
    """
    if every < 1:
        raise ValueError(f"`every` must be >= 1. Received: every={every}.")
    known = dict(labels or {})
    found: dict[str, TruthImage] = {}
    for number, (shard, offset, payload) in enumerate(_records([paths] if isinstance(paths, str) else paths)):
        if number % every:
            continue
        where = f"{shard}: record at byte {offset:,}"
        try:
            image = _record(schema.parse(payload), known, grow=labels is None, masks_too=masks_too)
        except (ValueError, KeyError, IndexError) as error:
            reason = error if isinstance(error, ValueError) else f"feature {error} is missing"
            raise ValueError(f"{where}: {reason}") from None
        image = dataclasses.replace(image, read=_record_reader(shard, offset, len(payload)))
        name = image.file
        for count in range(2, 1 << 30):  # two folders may hold pictures of one name
            if name not in found:
                break
            name = f"{image.file} ({count})"
        found[name] = dataclasses.replace(image, file=name)
    if not found:
        raise ValueError(f"`paths` must name records. Received: {paths}, which hold none.")
    return Truth(known, tuple(found.values()))


def find_shards(path: str) -> list[str]:
    """Returns the shards that a path, a pattern, a manifest or `FOLDER/NAME` means.

    Raises:
      ValueError: if there are none, or some are missing by their manifest or by the number in their names.
    """
    if os.path.isfile(path) and not path.endswith(".manifest.json"):
        return [path]
    found = [one for one in sorted(glob.glob(path)) if os.path.isfile(one) and not one.endswith(".json")]
    if not found:
        folder, name = shards.locate(path)
        found = [files.join(folder, shard) for shard in shards.shards_of(folder, name)]
    if not found:
        raise ValueError(f"`paths` must name TFRecords. Received: '{path}', where none are.")
    counts = {one.rpartition("-of-")[2] for one in found if "-of-" in one}
    for total in counts:
        present = sum(one.endswith(f"-of-{total}") for one in found)
        if total.isdigit() and present != int(total):
            raise ValueError(f"{path}: {present} of {int(total)} shards found; write the set again.")
    return found


def _records(paths: Sequence[str]) -> Iterator[tuple[str, int, bytes]]:
    for shard in (one for path in paths for one in find_shards(path)):
        for stretch in framing.scan(files.read(shard)):
            if stretch.damage:
                raise ValueError(
                    f"{shard}: record at byte {stretch.offset:,}: {stretch.damage}; "
                    "take the whole records with `tfllv records salvage`."
                )
            yield shard, stretch.offset, stretch.payload


def _record_reader(shard: str, offset: int, size: int) -> Callable[[], bytes]:
    def read() -> bytes:
        with open(shard, "rb") as stream:
            stream.seek(offset + framing.HEADER)
            return bytes(schema.parse(stream.read(size))[schema.ENCODED][0])

    return read


def _record(features: Mapping[str, list[Any]], known: dict[int, str], *, grow: bool, masks_too: bool) -> TruthImage:
    width, height = int(features[schema.WIDTH][0]), int(features[schema.HEIGHT][0])
    corners = [
        np.array(features.get(key, []), np.float64) for key in (schema.YMIN, schema.XMIN, schema.YMAX, schema.XMAX)
    ]
    if len({len(values) for values in corners}) > 1:
        raise ValueError(f"as many of each corner expected, found {[len(values) for values in corners]}")
    boxes = results.to_pixels(np.stack(corners, axis=1), width, height, decimals=_RECORD_DECIMALS)
    classes = _record_classes(features, known, grow=grow)
    count = len(boxes)
    areas = features.get(schema.AREA) or (boxes[:, 2] * boxes[:, 3]).tolist()
    crowd = features.get(schema.IS_CROWD) or [0] * count
    pngs = features.get(schema.MASK) or []
    lengths = {"boxes": count, "classes": len(classes), "areas": len(areas), "crowds": len(crowd)}
    lengths |= {"masks": len(pngs)} if masks_too and pngs else {}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"as many of each expected, found {lengths}")
    if masks_too and count and not pngs:
        raise ValueError(f"{schema.MASK} is missing; convert the set with masks, or evaluate boxes only")
    place = features.get(schema.INDOOR)
    return TruthImage(
        file=_text(features, schema.FILENAME) or _text(features, schema.SOURCE_ID),
        width=width,
        height=height,
        boxes=boxes,
        classes=classes,
        areas=np.array(areas, np.float64),
        crowd=np.array(crowd, bool),
        masks=tuple(results.encode_mask(_decode_png(png, width, height)) for png in pngs) if masks_too else None,
        lighting=int((features.get(schema.LIGHTING) or [0])[0]),
        indoor=bool(place[0]) if place else None,
    )


def _record_classes(features: Mapping[str, list[Any]], known: dict[int, str], *, grow: bool) -> np.ndarray:
    names = [str(name, "utf-8", "replace") for name in features.get(schema.CLASS_TEXT, [])]
    numbers = [int(number) for number in features.get(schema.CLASS_LABEL, [])]
    if not numbers and names:  # TFOD looks such classes up by their names
        by_name = {name: number for number, name in known.items()}
        unknown = [name for name in names if name not in by_name]
        if unknown:
            raise ValueError(f"class '{unknown[0]}' is not in the label map; give --label_map_path")
        return np.array([by_name[name] for name in names], np.int64)
    if grow:
        for index, number in enumerate(numbers):
            known.setdefault(number, names[index] if len(names) == len(numbers) else f"class {number}")
    unknown_ids = [number for number in numbers if number not in known]
    if unknown_ids:
        raise ValueError(f"class id {unknown_ids[0]} is not in the label map")
    return np.array(numbers, np.int64)


def _text(features: Mapping[str, list[Any]], key: str) -> str:
    values = features.get(key) or [b""]
    return str(values[0], "utf-8", "replace")


def _decode_png(data: bytes, width: int, height: int) -> np.ndarray:
    if not isinstance(data, bytes):
        raise ValueError(f"{schema.MASK}: PNG masks expected, found numbers; write them with `mask_type: PNG_MASKS`")
    mask: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if mask is None or mask.shape != (height, width):
        found = "no picture" if mask is None else f"{mask.shape[1]}x{mask.shape[0]}"
        raise ValueError(f"{schema.MASK}: a mask of {width}x{height} expected, found {found}")
    return np.asarray(mask)


def with_lighting(truth: Truth, class_list: str | os.PathLike[str], report: Report) -> Truth:
    """Adds ExDark's lighting and place to pictures, matched by name without ending.

    Args:
      truth: of ExDark's pictures, from whatever source.
      class_list: `imageclasslist.txt`.
      report: problems of the list are added to it.

    Raises:
      ValueError: if none of the pictures is in the list.
      OSError: if it cannot be read.
    """
    listed = exdark.read_class_list(class_list, report)
    found, count = [], 0
    for image in truth.images:
        line = listed.get(pathlib.PurePath(image.file).stem)
        count += line is not None
        found.append(image if line is None else dataclasses.replace(image, lighting=line.lighting, indoor=line.indoor))
    if not count:
        raise ValueError(
            f"{class_list}: none of the {len(found)} pictures is in this list, as '{truth.images[0].file}'."
        )
    return dataclasses.replace(truth, images=tuple(found))
