"""Sets of shards as a `tf.data.Dataset`, checked before the first step. The only module here that needs TensorFlow."""

from __future__ import annotations

import os
from typing import Any

import tensorflow as tf

from tfllv.records import files, schema, shards

CHECKS = ("full", "size", "none")


def check_set(path: str | os.PathLike[str], *, check: str = "full") -> list[str]:
    """Checks a set against its manifest.

    Args:
      path: a manifest, a pattern such as `FOLDER/NAME-?????-of-00010`, `FOLDER/NAME`, or a folder that holds one set.
      check: `full` compares every shard's content (about 1 GB/s), `size` presence and size, `none` nothing: then
        no manifest is needed.

    Returns:
      The shards' paths, in order.

    Raises:
      ValueError: naming each shard that is missing, short or altered; or if the manifest is missing.
    """
    if check not in CHECKS:
        raise ValueError(f"`check` must be one of {', '.join(CHECKS)}. Received: check='{check}'.")
    folder, name = shards.locate(str(path))
    if check == "none":
        found = [files.join(folder, shard) for shard in shards.shards_of(folder, name)]
        if not found:
            raise ValueError(f"`path` must name a set of shards. Received: {path}, where none are.")
        return found
    manifest = shards.read_manifest(folder, name)
    wrong = shards.check(folder, manifest, content=check == "full")
    if wrong:
        raise ValueError(f"{'; '.join(wrong)}. Take the whole records with `tfllv records salvage`, or write it anew.")
    return [files.join(folder, shard["name"]) for shard in manifest["shards"]]


def read_dataset(path: str | os.PathLike[str], *, check: str = "full", parallel: int = 4) -> tf.data.Dataset:
    """Reads a set as serialised examples, in an order that is always the same: one record of each shard in turn.

    Args:
      path: as `check_set`.
      check: as `check_set`; it happens here, before step 0.
      parallel: shards read at once.

    Returns:
      A dataset of scalar strings, its cardinality known where a manifest was read.

    Raises:
      ValueError: as `check_set`.
    """
    paths = check_set(path, check=check)
    dataset = tf.data.Dataset.from_tensor_slices(paths).interleave(
        tf.data.TFRecordDataset,
        cycle_length=len(paths),
        num_parallel_calls=min(parallel, len(paths)),
        deterministic=True,
    )
    if check != "none":
        count = shards.read_manifest(*shards.locate(str(path)))["count"]
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    return dataset


def parse_example(serialized: Any) -> dict[str, Any]:
    """Parses one record in a graph.

    Args:
      serialized: scalar string.

    Returns:
      Key of the schema -> tensor: scalars, or [N] for lists; '' and 0 for single features that the record lacks.
    """
    return dict(tf.io.parse_single_example(serialized, schema.spec()))
