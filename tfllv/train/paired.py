"""The experiment `paired`: how its configuration becomes a learner and its pictures."""

from __future__ import annotations

import dataclasses
import fnmatch
import pathlib
from collections.abc import Sequence
from typing import Any

import keras

from tfllv import contracts, models
from tfllv.config import DiffusionConfig, PairedConfig
from tfllv.inputs import files, pairs
from tfllv.train.learner import Learner


def learner(config: PairedConfig) -> Learner:
    """Builds the network with its options, its frozen layers, and the supervised objective."""
    from tfllv.objectives import adversarial, supervised

    options = parse_options(config.options)
    if config.precision != "float32":
        options["dtype"] = f"mixed_{config.precision}"
    net = models.build(config.model, seed=config.seed, **options)
    freeze(net, config.freeze)
    weights = dataclasses.asdict(config.weights)
    share = weights.pop("adversarial")
    settings: dict[str, Any] = {"weights": weights, "features": config.features, "seed": config.seed}
    if not share:
        return Learner(net, supervised.Supervised(**settings))
    width = int(options.get("n_feat", 64))  # of the discriminator's first level, as the generator's
    return Learner(net, adversarial.Adversarial(adversarial=share, discriminator_features=width, **settings))


def source(config: PairedConfig) -> pairs.PairedSource:
    """Returns the training pairs."""
    if config.mixup and config.darken:
        raise ValueError("`mixup` must be 0 with `darken`. Received: both.")
    fitting: dict[str, Any] = {"size": config.image_size, "fit": config.image_fit, "cache_mb": config.cache_mb}
    if config.darken:
        paths = files.find_images(config.pairs, name="pairs")
        paths = files.select(paths, config.pairs, include=config.include, exclude=config.exclude)
        return pairs.DarkenedSource(paths, config.darken, flip=config.flip, seed=config.seed, **fitting)
    columns = select(pairs.find_pairs(config.pairs, splits=config.splits), config)
    changes: dict[str, Any] = {"flip": config.flip, "zoom": config.zoom, "exposure": config.exposure}
    changes |= {"mixup": config.mixup, "mixup_after": config.mixup_after}
    return pairs.PairedSource(columns, **changes, **fitting)


def validation(config: PairedConfig) -> pairs.PairedSource | None:
    """Returns the validation pairs, whole pictures; None where the configuration names none."""
    if not config.val_pairs:
        return None
    data = pathlib.Path(config.val_pairs)
    if not data.exists():
        given = pathlib.Path(config.pairs)
        data = (given if given.is_dir() else given.parent) / config.val_pairs
    if config.darken:
        paths = files.find_images(data, name="val_pairs")
        return pairs.DarkenedSource(paths, config.darken, seed=config.seed, cache_mb=config.cache_mb)
    columns = pairs.find_pairs(data, splits=config.val_splits, name="val_pairs")
    return pairs.PairedSource(columns, cache_mb=config.cache_mb)


def select(
    columns: dict[str, list[pathlib.Path]], config: PairedConfig | DiffusionConfig, *, folder: str = ""
) -> dict[str, list[pathlib.Path]]:
    """Applies `include` and `exclude` to the dark pictures, in `folder` or that of `pairs`; their truths go along."""
    if not config.include and not config.exclude:
        return columns
    low = columns[contracts.LOW]
    data = pathlib.Path(folder or config.pairs)
    base = data if data.is_dir() else data.parent
    kept = set(files.select(low, base, include=config.include, exclude=config.exclude))
    chosen = [path in kept for path in low]
    return {key: [path for path, taken in zip(paths, chosen, strict=True) if taken] for key, paths in columns.items()}


def parse_options(words: Sequence[str]) -> dict[str, Any]:
    """Returns `["n_feat=32"]` as {"n_feat": 32}; whole numbers, true and false become such, the rest stays a word.

    Raises:
      ValueError: if a word has no `=`.
    """
    options: dict[str, Any] = {}
    for word in words:
        name, equals, value = (part.strip() for part in word.partition("="))
        if not equals or not name:
            raise ValueError(f"`options` must be `name=value`. Received: '{word}'.")
        switch = {"true": True, "false": False}.get(value)
        options[name] = int(value) if value.lstrip("-").isdigit() else value if switch is None else switch
    return options


def freeze(net: keras.Model, patterns: Sequence[str]) -> list[str]:
    """Makes layers untrainable, with everything inside them.

    Args:
      net: a built network.
      patterns: layers' names, with `*` and `?`, at any depth: `conv_in`, `dau*`.

    Returns:
      The paths of the frozen variables.

    Raises:
      ValueError: if a pattern names no layer, or nothing is left to train.
    """
    layers = [layer for layer in net._flatten_layers(include_self=False) if layer.weights]
    for pattern in patterns:
        named = [layer for layer in layers if fnmatch.fnmatch(layer.name, pattern)]
        if not named:
            hint = contracts.nearest_name(pattern, {layer.name for layer in layers})
            raise ValueError(f"`freeze` must name layers of `{net.name}`. Received: '{pattern}'; {hint}")
        for layer in named:
            layer.trainable = False
    if patterns and not net.trainable_variables:
        raise ValueError(f"`freeze` must leave something to train. Received: {', '.join(patterns)}.")
    return [variable.path for variable in net.non_trainable_variables]
