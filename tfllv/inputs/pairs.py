"""Pairs of a dark and a bright picture of one scene for training: found, cropped and mixed alike, or made by darkening.

A source here is a `pipeline.ImageSource` with changes of its own, each a transform of `tfllv.inputs.transforms`: what
it does to an example depends on (seed, number of the example) alone.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfllv import contracts
from tfllv.inputs import image_header, pipeline, transforms
from tfllv.ops import darken
from tfllv.records import pairs as records
from tfllv.records import problems

_MIX_SALT = 1_000_003  # the partner's crop and flips are drawn from another seed than the example's


def find_pairs(
    data: str | pathlib.Path, *, splits: Sequence[str] = (), name: str = "pairs"
) -> dict[str, list[pathlib.Path]]:
    """Returns the pictures of all pairs as columns: {"low": paths, "high": paths}, in one order.

    Args:
      data: a csv with columns low and high (paths relative to it), or a folder with LOL's layout: folders low and high,
        beside each other or one level down, matched by name.
      splits: of a folder, only these: `train` (our485), `val`, `test` (eval15).
      name: the argument's name, for messages.

    Raises:
      FileNotFoundError: if `data` does not exist.
      ValueError: naming the place, if a row or picture has no partner, or there is no pair.
    """
    data = pathlib.Path(data)
    if not data.exists():
        raise FileNotFoundError(f"`{name}` must be a csv or folder of pairs. Received: '{data}', which does not exist.")
    report = problems.Report()
    found = records.read_layout(data, report) if data.is_dir() else records.read_pairs_csv(data, None, report)
    if splits:
        unknown = sorted(set(splits) - set(records.SPLITS))
        if unknown:
            raise ValueError(
                f"`splits` must be of {', '.join(records.SPLITS)}. Received: '{unknown[0]}'; "
                f"{contracts.nearest_name(unknown[0], records.SPLITS)}"
            )
        found = [pair for pair in found if pair.split in splits]
    if len(report):
        raise ValueError(f"`{name}` must be complete. Received: {next(iter(report))} ({len(report)} problems in all).")
    if not found:
        raise ValueError(f"`{name}` must hold a pair. Received: '{data}', which holds none.")
    return {
        contracts.LOW: [pathlib.Path(pair.low) for pair in found],
        contracts.HIGH: [pathlib.Path(pair.high) for pair in found],
    }


class PairedSource(pipeline.ImageSource):
    """Pictures of pairs by index.

    Attributes:
      changes: transforms that run after the crop and the turns which the pipeline makes.
    """

    def __init__(
        self,
        columns: Mapping[str, Sequence[pathlib.Path]],
        *,
        size: int = 1,
        fit: str = "crop",
        cache_mb: int = 2000,
        flip: bool = False,
        zoom: float = 0.0,
        exposure: float = 0.0,
        mixup: float = 0.0,
        mixup_after: int = 0,
    ):
        """Checks every file's header, and that the pictures of a pair have one size.

        Args:
          columns: {"low": N paths, "high": N paths}, or "high" alone.
          size: as `ImageSource`; 1 with `crop` keeps the pictures as they are.
          fit: as `ImageSource`.
          cache_mb: as `ImageSource`.
          flip: mirrors half of the examples, left to right.
          zoom: enlarges a part of each pair; see `transforms.random_zoom`; 0 does not.
          exposure: scales the dark pictures; see `transforms.random_exposure`; 0 leaves them.
          mixup: every example is mixed with another by a share drawn from Beta(mixup, mixup), pictures and truths
            alike (Zhang et al., ICLR 2018, arXiv:1710.09412); 0 for none.
          mixup_after: number of epochs without mixing at the start.

        Raises:
          ValueError: naming the files, if one is no image or the sizes of a pair differ.
        """
        super().__init__(columns, size=size, fit=fit, cache_mb=cache_mb)
        for row in zip(*columns.values(), strict=True):
            sizes = [image_header.read_header(path).upright_size for path in row]
            if len(set(sizes)) != 1:
                found = ", ".join(f"{path} {width}x{height}" for path, (width, height) in zip(row, sizes, strict=True))
                raise ValueError(f"a pair must have pictures of one size; nothing is resized. Received: {found}.")
        self.changes: list[transforms.Transform] = [transforms.random_mirror()] if flip else []
        self.changes += [transforms.random_zoom(zoom)] if zoom else []
        self.changes += [transforms.random_exposure(exposure)] if exposure else []
        if mixup:
            self.changes.append(self._mix_with(list(self.changes), mixup, mixup_after * len(self)))

    def read_centre(self, key: str, index: int) -> np.ndarray:
        """Returns the whole picture: what validation sees."""
        return self.read(key, index)

    def _mix_with(self, before: list[transforms.Transform], shape: float, start: int) -> transforms.Transform:
        """Mixes an example with one that is drawn from all; its own changes are `before`."""

        def partner_of(seed: tf.Tensor) -> list[tf.Tensor]:
            index = tf.random.stateless_uniform([], seed, maxval=len(self), dtype=tf.int64, alg="philox")
            partner = self.load(index, seed if self.fit == "crop" else None)
            for change in before:
                partner = change(partner, seed)
            return [partner[key] for key in self.keys]

        def apply(example: transforms.Example, seed: tf.Tensor) -> transforms.Example:
            other = seed + tf.constant([_MIX_SALT, 0], tf.int64)
            on = seed[1] >= start
            partner = tf.cond(on, lambda: partner_of(other), lambda: [example[key] for key in self.keys])
            first, second = (tf.random.stateless_gamma([], other + salt, shape, dtype=tf.float32) for salt in (1, 2))
            share = tf.where(on, first / (first + second), 1.0)
            mixed = transforms.to_float({key: example[key] for key in self.keys})
            partner = transforms.to_float(dict(zip(self.keys, partner, strict=True)))
            return example | {key: share * mixed[key] + (1 - share) * partner[key] for key in self.keys}

        return apply


class DarkenedSource(PairedSource):
    """Pairs made of bright pictures alone: the dark one by a recipe of `tfllv.ops.darken`, anew in each epoch."""

    def __init__(
        self,
        paths: Sequence[pathlib.Path],
        recipe: str,
        *,
        size: int = 1,
        fit: str = "crop",
        cache_mb: int = 2000,
        flip: bool = False,
        seed: int = 0,
    ):
        """Checks every file's header and the recipe.

        Args:
          paths: bright pictures.
          recipe: a key of `darken.RECIPES`.
          size: as `PairedSource`.
          fit: as `PairedSource`.
          cache_mb: as `PairedSource`.
          flip: as `PairedSource`.
          seed: of the dark pictures that validation sees, the same every time; training draws its own.

        Raises:
          ValueError: naming the file, if one is no image; or if there is no such recipe.
        """
        darken.check_options(recipe, {})
        super().__init__({contracts.HIGH: paths}, size=size, fit=fit, cache_mb=cache_mb, flip=flip)
        self._recipe, self._seed = recipe, seed

        def make_dark(example: transforms.Example, seed: tf.Tensor) -> transforms.Example:
            high = tf.cast(example[contracts.HIGH], tf.float32) * (1 / 255)
            return example | {contracts.LOW: darken.darken(high, recipe, seed), contracts.HIGH: high}

        self.changes.append(make_dark)
        self.keys = (contracts.LOW, contracts.HIGH)

    def read_centre(self, key: str, index: int) -> np.ndarray:
        """Returns the whole picture; the dark one is made of the bright one by the source's own seed."""
        high = self.read(contracts.HIGH, index)
        return high if key == contracts.HIGH else darken.darken(high, self._recipe, (self._seed, index))
