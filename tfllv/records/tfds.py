"""Any detection set of TensorFlow Datasets as a source (https://www.tensorflow.org/datasets).

Pictures are handed through as they are stored, not decoded. Every shard reads its own stretch of the set, so nothing
is held in memory and workers need not talk to each other.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

from tfllv.records import schema
from tfllv.records.detection import Item, Thing
from tfllv.records.problems import Where

_BOX, _LABEL, _CROWD = ("bbox",), ("label", "labels"), ("is_crowd", "iscrowd")


@dataclasses.dataclass(frozen=True)
class Slice:
    """A stretch of one split; iterating it loads TensorFlow Datasets and yields items.

    Attributes:
      name: of the set, such as `coco/2017`.
      split: such as `train`.
      start: first example.
      stop: one behind the last.
      data_dir: where the set is prepared; '' means the default of TensorFlow Datasets.
      labels: class names by the set's own index, from 0.
    """

    name: str
    split: str
    start: int
    stop: int
    data_dir: str
    labels: tuple[str, ...]

    def __iter__(self) -> Iterator[Item]:
        tfds = _import()
        instruction = f"{self.split}[{self.start}:{self.stop}]"
        config = tfds.ReadConfig(interleave_cycle_length=1)  # one order: files one after the other
        dataset = tfds.load(
            self.name,
            split=instruction,
            data_dir=self.data_dir or None,
            shuffle_files=False,
            download=False,
            decoders={"image": tfds.decode.SkipDecoding()},
            read_config=config,
        )
        for offset, example in enumerate(tfds.as_numpy(dataset)):
            yield _item(example, self, self.start + offset)


def _import() -> Any:
    try:
        import tensorflow_datasets
    except ImportError:
        raise ValueError("`--tfds` needs TensorFlow Datasets: pip install 'tfllv[detection]'.") from None
    return tensorflow_datasets


def read_tfds(
    name: str, split: str, *, data_dir: str = "", num_shards: int = 0, max_images: int = 0
) -> tuple[list[Slice], dict[str, int]]:
    """Plans the reading of a prepared set.

    Args:
      name: of the set, with its configuration: `coco/2017`, `voc/2012`.
      split: such as `train` or `validation`.
      data_dir: where it is prepared; '' means the default of TensorFlow Datasets.
      num_shards: stretches; 0: ten, or one an example where there are fewer.
      max_images: take only so many, the first; 0: all.

    Returns:
      The stretches, and class name -> id from 1 (the set's own index plus one: 0 is the background).

    Raises:
      ValueError: if the set or the split is unknown or not a detection set, or is not prepared there.
    """
    tfds = _import()
    try:
        builder = tfds.builder(name, data_dir=data_dir or None)
        info = builder.info
        count = info.splits[split].num_examples
    except (tfds.core.DatasetNotFoundError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"`tfds` must name a set and split that is prepared. Received: {name}, {split}: {reason}"
        ) from None
    if not {"image", "objects"} <= set(info.features):
        raise ValueError(f"`tfds` must be a detection set, with image and objects. Received: {name}.")
    objects = info.features["objects"].feature
    key = next((key for key in _LABEL if key in objects), None)
    if key is None or "bbox" not in objects:
        raise ValueError(f"`tfds` must have bbox and label in its objects. Received: {name}.")
    labels = _label_names(objects[key])
    total = min(count, max_images) if max_images else count
    shards = num_shards or max(1, min(10, total))
    edges = [total * index // shards for index in range(shards + 1)]
    slices = [
        Slice(name, split, start, stop, data_dir, labels)
        for start, stop in zip(edges, edges[1:], strict=False)  # noqa: RUF007 - reads as what it is
    ]
    return slices, {label: index for index, label in enumerate(labels, 1)}


def _label_names(feature: Any) -> tuple[str, ...]:
    try:
        return tuple(feature.names)
    except ValueError:  # the set was prepared without them
        return tuple(str(index) for index in range(feature.num_classes))


def _item(example: dict[str, Any], part: Slice, number: int) -> Item:
    objects, data = example["objects"], bytes(example["image"])
    label_key = next(key for key in _LABEL if key in objects)
    crowds = next((objects[key] for key in _CROWD if key in objects), None)
    filename = _text(example.get("image/filename")) or f"{part.split}-{number:08d}"
    where = Where(f"{part.name}:{part.split}", number + 1)
    size = _size(data)
    things = []
    for index, (box, label) in enumerate(zip(objects["bbox"], objects[label_key], strict=True)):
        ymin, xmin, ymax, xmax = (float(value) for value in box)
        known = 0 <= int(label) < len(part.labels)
        things.append(
            Thing(
                box=(xmin * size[0], ymin * size[1], xmax * size[0], ymax * size[1]),
                label=int(label) + 1,
                text=part.labels[int(label)] if known else str(int(label)),
                where=where,
                field=f"objects[{index}].bbox",
                is_crowd=bool(crowds[index]) if crowds is not None else False,
            )
        )
    identity = example.get("image/id")
    return Item(
        key=str(int(identity)) if identity is not None else f"{part.split}-{number:08d}",
        image=data,
        filename=pathlib.PurePath(filename).name,
        things=tuple(things),
        where=where,
        extra=((schema.SPLIT, part.split),),
    )


def _size(data: bytes) -> tuple[int, int]:
    from tfllv.records import images

    try:
        return images.size(data)
    except ValueError:
        return (1, 1)  # the builder reports the picture


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
