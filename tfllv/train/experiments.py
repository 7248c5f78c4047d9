"""The table of experiments: name -> what is trained, what for, on which images."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

from tfllv import contracts, models
from tfllv.config import TrainConfig, ZeroReferenceConfig
from tfllv.inputs import files, pipeline
from tfllv.train import diffusion, multitask, paired
from tfllv.train.learner import Learner


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One row: how a configuration becomes a learner and its images.

    Attributes:
      learner: config -> Learner; called in the strategy's scope.
      source: config -> training images.
      validation: config -> validation images, or None to take the training images.
      data_field: the config's field that `--data` sets.
      start: config -> the weights file to start from, or "".
    """

    learner: Callable[[Any], Learner]
    source: Callable[[Any], pipeline.ImageSource]
    validation: Callable[[Any], pipeline.ImageSource | None]
    data_field: str
    start: Callable[[Any], str]


def build_net(config: TrainConfig, **options: Any) -> Any:
    """Builds the network of a configuration with its own options, seed and precision."""
    if config.precision != "float32":
        options["dtype"] = f"mixed_{config.precision}"
    return models.build(config.model, seed=config.seed, **options)


def _zero_reference(config: ZeroReferenceConfig) -> Learner:
    from tfllv.objectives import zero_reference

    options: dict[str, Any] = {}
    if config.model != "zero_dce":
        options["scale_factor"] = config.scale_factor
    if config.model == "sgz":
        options["conv_type"] = config.conv_type
    objective = zero_reference.ZeroReference(
        weights=dataclasses.asdict(config.weights),
        patch_size=config.patch_size,
        exp_level=config.exp_level,
        neighbours=config.neighbours,
        semantic=config.semantic,
        num_classes=config.num_of_SegClass,
        segmenter=config.segmenter,
        seed=config.seed,
    )
    return Learner(build_net(config, **options), objective)


def _dark_images(config: ZeroReferenceConfig) -> pipeline.ImageSource:
    folder = config.lowlight_images_path
    paths = files.find_images(folder, name="lowlight_images_path", option="--data")
    paths = files.select(paths, folder, include=config.include, exclude=config.exclude)
    return _source(config, files.select_dark(paths, config.max_level))


def _validation_images(config: ZeroReferenceConfig) -> pipeline.ImageSource | None:
    if not config.val_images_path:
        return None
    return _source(config, files.find_images(config.val_images_path, name="val_images_path"))


def _source(config: TrainConfig, paths: list[pathlib.Path]) -> pipeline.ImageSource:
    return pipeline.ImageSource(
        {contracts.LOW: paths}, size=config.image_size, fit=config.image_fit, cache_mb=config.cache_mb
    )


EXPERIMENTS: dict[str, Experiment] = {
    "zero_reference": Experiment(
        learner=_zero_reference,
        source=_dark_images,
        validation=_validation_images,
        data_field="lowlight_images_path",
        start=lambda config: config.pretrain_dir if config.load_pretrain else "",
    ),
    "paired": Experiment(
        learner=paired.learner,
        source=paired.source,
        validation=paired.validation,
        data_field="pairs",
        start=lambda config: config.start_from,
    ),
    "multitask": Experiment(
        learner=multitask.learner,
        source=multitask.source,
        validation=multitask.validation,
        data_field="images",
        start=lambda config: config.start_from,
    ),
    "diffusion": Experiment(
        learner=diffusion.learner,
        source=diffusion.source,
        validation=diffusion.validation,
        data_field="pairs",
        start=lambda config: config.start_from,
    ),
}
