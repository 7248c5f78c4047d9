"""The experiment `diffusion`: how its configuration becomes a learner and its pictures."""

from __future__ import annotations

import pathlib

from tfllv import models
from tfllv.config import DiffusionConfig
from tfllv.diffusion import schedules
from tfllv.inputs import noisy_pairs, pairs
from tfllv.train import paired
from tfllv.train.learner import Learner


def learner(config: DiffusionConfig) -> Learner:
    """Builds the network with its options, and the denoising objective."""
    from tfllv.objectives import denoising

    options = paired.parse_options(config.options)
    if config.precision != "float32":
        options["dtype"] = f"mixed_{config.precision}"
    net = models.build(config.model, seed=config.seed, **options)
    if not hasattr(net, "estimate"):
        raise ValueError(f"`model` must be a diffusion network, such as diffusion_unet. Received: '{config.model}'.")
    objective = denoising.Denoising(weighting=config.weighting, gamma=config.min_snr_gamma, seed=config.seed)
    return Learner(net, objective)


def source(config: DiffusionConfig) -> noisy_pairs.NoisyPairs:
    """Returns the training pairs, from a table or from two folders.

    Raises:
      ValueError: if neither or both are named, or as `NoisyPairs`.
    """
    folders = [config.input_image_dir, config.conditional_image_dir]
    if bool(config.pairs) == any(folders) or any(folders) != all(folders):
        raise ValueError(
            "`pairs` (or --data), or `input_image_dir` and `conditional_image_dir`, must be given. Received: "
            f"pairs='{config.pairs}', input_image_dir='{folders[0]}', conditional_image_dir='{folders[1]}'."
        )
    if config.pairs:
        columns = paired.select(pairs.find_pairs(config.pairs), config)
    else:
        columns = noisy_pairs.find_named_pairs(*folders, annotation=config.annotation)
        columns = paired.select(columns, config, folder=config.conditional_image_dir)
    return noisy_pairs.NoisyPairs(
        columns,
        size=config.image_size,
        times=schedules.STEPS,
        crop_from=config.crop_from,
        crop_to=config.crop_to,
        cache_mb=config.cache_mb,
        flip=config.flip,
        exposure=config.exposure,
        cast=config.cast,
        perturbation=config.input_perturbation,
    )


def validation(config: DiffusionConfig) -> noisy_pairs.NoisyPairs | None:
    """Returns the validation pairs; None where the configuration names none."""
    if not config.val_pairs:
        return None
    data = pathlib.Path(config.val_pairs)
    if not data.exists() and config.pairs:
        given = pathlib.Path(config.pairs)
        data = (given if given.is_dir() else given.parent) / config.val_pairs
    columns = pairs.find_pairs(data, name="val_pairs")
    return noisy_pairs.NoisyPairs(columns, size=config.image_size, times=schedules.STEPS, cache_mb=config.cache_mb)
