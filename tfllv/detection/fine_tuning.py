"""Starting from a checkpoint of another detector, possibly with another label map, and saying what came from it."""

from __future__ import annotations

import collections
import dataclasses
import os
import re
from typing import Any

from tfllv.detection import compat


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What a checkpoint gave a model.

    Attributes:
      path: of the checkpoint.
      loaded: number of the model's variables that have its values.
      fresh: part of the model -> number of its variables that keep their initial values.
    """

    path: str
    loaded: int
    fresh: dict[str, int]

    def __str__(self) -> str:
        parts = ", ".join(f"{name} ({count} variables)" for name, count in self.fresh.items())
        return f"{self.path}: {self.loaded} variables loaded; start fresh: {parts or 'none'}"


def load(model: Any, train_config: Any) -> Loaded:
    """Loads `fine_tune_checkpoint` into a model whose variables exist, by its `fine_tune_checkpoint_type`.

    Args:
      model: a TFOD `DetectionModel`.
      train_config: the `train_config` of the pipeline.

    Returns:
      What was loaded and what starts fresh.

    Raises:
      ValueError: if the checkpoint is not of this model's feature extractor, or the model knows no such type.
      OSError: if there is no such checkpoint.
    """
    compat.install()
    import tensorflow as tf
    from object_detection.utils import config_util

    path, kind = train_config.fine_tune_checkpoint, train_config.fine_tune_checkpoint_type
    if not kind:
        config_util.update_fine_tune_checkpoint_type(train_config)
        kind = train_config.fine_tune_checkpoint_type
    if not os.path.isfile(f"{path}.index"):
        raise FileNotFoundError(f"{path}.index: train_config.fine_tune_checkpoint: no such file.")
    parts = model.restore_from_objects(fine_tune_checkpoint_type=kind)
    taken = _variables(tf, parts)
    try:
        tf.train.Checkpoint(**parts).restore(path).expect_partial().assert_existing_objects_matched()
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path}: train_config.fine_tune_checkpoint: holds no {kind} weights of this model's feature extractor; "
            f"take a checkpoint of the same backbone and size, or another fine_tune_checkpoint_type ({reason})"
        ) from None
    fresh = collections.Counter(
        _part_of(variable) for variable in _variables(tf, {"model": model}) if variable.ref() not in refs(taken)
    )
    return Loaded(path, len(taken), dict(sorted(fresh.items())))


def refs(variables: list[Any]) -> set[Any]:
    """Returns the variables' references, which can be compared where variables cannot."""
    return {variable.ref() for variable in variables}


def _variables(tf: Any, parts: dict[str, Any]) -> list[Any]:
    """All variables that a checkpoint of `parts` would hold."""
    from tensorflow.python.checkpoint import graph_view

    found = {}
    root = tf.train.Checkpoint(**parts)  # the view holds no reference of its own
    for trackable in graph_view.ObjectGraphView(root).breadth_first_traversal()[0]:
        if isinstance(trackable, tf.Variable):
            found[trackable.ref()] = trackable
    return list(found.values())


def _part_of(variable: Any) -> str:
    """The head that a variable belongs to, by the scopes of its name."""
    names = variable.name.split(":")[0].split("/")
    # Heads of one kind are numbered by the level they look at.
    return re.sub(r"_\d+$", "", "/".join(names[:2]) if len(names) > 2 else names[0])
