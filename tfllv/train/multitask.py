"""The experiment `multitask`: how its configuration becomes a learner and its pictures."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import tensorflow as tf

from tfllv import models
from tfllv.config import MultitaskConfig
from tfllv.inputs import files, labels, multitask, record_scenes
from tfllv.losses import segmentation
from tfllv.train import replicas
from tfllv.train.learner import Learner


def learner(config: MultitaskConfig) -> Learner:
    """Builds the network and the objective, whose class weights are counted from the training maps."""
    from tfllv.objectives.multitask import Multitask

    options: dict[str, Any] = {} if config.precision == "float32" else {"dtype": f"mixed_{config.precision}"}
    net = models.build(
        config.model,
        num_classes=config.num_classes,
        width=config.width,
        shared_blocks=config.shared_blocks,
        tasks=config.tasks,
        weights=config.encoder,
        frozen_stages=config.frozen_stages,
        # Replicas normalise by the statistics of them all, so that their number changes nothing.
        synchronized=tf.distribute.get_strategy().num_replicas_in_sync > 1,
        seed=config.seed,
        **options,
    )
    replicas.synchronize(net)
    enhancement = dataclasses.asdict(config.weights)
    share = enhancement.pop("segmentation")
    class_weights = None
    if config.balance != "none" and config.tasks != "enhancement":
        class_weights = segmentation.balance(source(config).count_classes(), config.balance)
    objective = Multitask(
        enhancement=enhancement,
        segmentation=share,
        class_weights=class_weights,
        weighting=config.weighting,
        features=config.features,
        seed=config.seed,
    )
    return Learner(net, objective)


def source(config: MultitaskConfig) -> multitask.MultitaskSource:
    """Returns the training pictures."""
    masks, dark = (_beside(name, config.images) for name in (config.masks, config.dark))
    changes = {name: getattr(config, name) for name in ("crop_from", "crop_to", "flip", "tint")}
    return _scenes(config, config.images, masks, dark, chosen=True, **changes)


def validation(config: MultitaskConfig) -> multitask.MultitaskSource | None:
    """Returns the validation pictures, whole; None where the configuration names none."""
    if not config.val_images:
        return None
    beside = [_beside(name, config.images) for name in (config.val_images, config.val_masks, config.val_dark)]
    return _scenes(config, *beside, chosen=False)


def _scenes(
    config: MultitaskConfig, images: str, masks: str, dark: str, *, chosen: bool, **changes: Any
) -> multitask.MultitaskSource:
    options: dict[str, Any] = {
        "recipe": config.darken,
        "num_classes": config.num_classes,
        "void": _void(config),
        "size": config.image_size,
        "fit": config.image_fit,
        "cache_mb": config.cache_mb,
        **changes,
    }
    ids = record_scenes.read_ids(config.image_ids) if chosen and config.image_ids else []
    if not masks:
        if pathlib.Path(images).is_dir() and not any(pathlib.Path(images).glob("*.manifest.json")):
            raise ValueError(
                f"`masks` must be a folder of maps of class ids, unless `images` are TFRecords. Received: none for "
                f"'{images}'."
            )
        if config.include or config.exclude:
            raise ValueError(
                "`include` and `exclude` must be empty with TFRecords; use `image_ids`. Received: entries."
            )
        return record_scenes.RecordScenes(record_scenes.find_entries(images, ids=set(ids)), **options)
    found, maps = labels.find_maps(images, masks)
    taken = set(_choose(found, config, ids)) if chosen else set(found)
    rows = [(path, map_) for path, map_ in zip(found, maps, strict=True) if path in taken]
    found, maps = [path for path, _ in rows], [map_ for _, map_ in rows]
    return multitask.MultitaskSource(found, maps, _find_dark(found, dark), **options)


def _choose(paths: list[pathlib.Path], config: MultitaskConfig, ids: list[str]) -> list[pathlib.Path]:
    """Applies `image_ids`, `include` and `exclude`."""
    if ids:
        there = {_number(path.stem): path for path in paths}
        for word in ids:
            if _number(word) not in there:
                raise ValueError(
                    f"`image_ids` must be names of pictures in '{config.images}'. Received: {word}, which is not there."
                )
        wanted = {_number(word) for word in ids}
        paths = [path for path in paths if _number(path.stem) in wanted]
    return files.select(paths, config.images, include=config.include, exclude=config.exclude)


def _number(word: str) -> str:
    """COCO's files are 000000000139.jpg for the id 139."""
    return word.lstrip("0") or "0" if word.isdecimal() else word


def _find_dark(images: list[pathlib.Path], folder: str) -> list[pathlib.Path]:
    """Returns the dark pictures by the names of the bright ones, or none."""
    if not folder:
        return []
    there = {path.stem: path for path in files.find_images(folder, name="dark")}
    for path in images:
        if path.stem not in there:
            raise ValueError(f"`dark` must have a dark picture for each one. Received: none for {path} in '{folder}'.")
    return [there[path.stem] for path in images]


def _beside(name: str, images: str) -> str:
    """Returns a path as it is or, where it leads nowhere, beside the training pictures' folder."""
    if not name or pathlib.Path(name).exists():
        return name
    return str(pathlib.Path(images).parent / name)


def _void(config: MultitaskConfig) -> list[int]:
    for word in config.void:
        if not word.isdecimal() or int(word) > 255:
            raise ValueError(f"`void` must be ids from 0 to 255. Received: '{word}'.")
    return [int(word) for word in config.void]
