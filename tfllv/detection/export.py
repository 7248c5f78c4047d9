"""Exports a trained detector as TFOD does, and publishes it only if it finds what the live model finds.

The output folder has TFOD's layout, `saved_model/`, `checkpoint/` and `pipeline.config`, and beside them the label map.
TFOD's own exporter writes it, into a temporary folder beside the output. The SavedModel is then loaded in a fresh
process and run over pictures, as is a model built anew here from the configuration and the trained checkpoint; where
boxes, classes, scores or masks differ, nothing is published.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tfllv import contracts
from tfllv.detection import compat, detector, live_detector, mask_features, reloading
from tfllv.detection.detector import Found
from tfllv.inputs import files, image_files

LABEL_MAP = "label_map.pbtxt"
PARTS = (detector.SAVED_MODEL, "checkpoint", "pipeline.config", LABEL_MAP)

# Bits were equal wherever this was tried; a device may sum in another order.
BOX_TOLERANCE = 1e-5  # of the picture's side
SCORE_TOLERANCE = 1e-4  # relative
MASK_TOLERANCE = 1e-3
# The last detections may change places with the first that were cut off, when their scores are equal.
_TIED_SHARE = 0.1

_STATE = re.compile(r'^model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', re.MULTILINE)
_NUMBERED = re.compile(r"-(\d+)\.index\Z")
_SIDE_TYPE = re.compile(r"tf\.(float32|float64|int32|int64|uint8|bool|string)\Z")


@dataclasses.dataclass(frozen=True)
class SideInputs:
    """Inputs beside the picture, of models such as Context R-CNN, as TFOD's flags give them.

    Attributes:
      shapes: as `1,2000,2057/1`; -1 is any size.
      types: as `tf.float32,tf.int32`.
      names: as `context_features,valid_context_size`.
    """

    shapes: str
    types: str
    names: str

    def __post_init__(self) -> None:
        shapes, types, names = self.parts()
        if not len(shapes) == len(types) == len(names) or not all(names):
            raise ValueError(
                "--side_input_shapes, _types and _names must name as many inputs each. "
                f"Received: '{self.shapes}', '{self.types}' and '{self.names}'."
            )
        if not all(re.fullmatch(r"-?\d+(,-?\d+)*", shape) for shape in shapes):
            raise ValueError(f"--side_input_shapes must be as 1,2000,2057/1. Received: '{self.shapes}'.")
        if not all(_SIDE_TYPE.match(kind) for kind in types):
            raise ValueError(f"--side_input_types must be as tf.float32,tf.int32. Received: '{self.types}'.")

    def parts(self) -> tuple[list[str], list[str], list[str]]:
        """Shapes, types and names, one entry an input."""
        types = [kind.strip() for kind in self.types.split(",")]
        return self.shapes.replace(" ", "").split("/"), types, self.names.split(",")

    def examples(self) -> dict[str, np.ndarray]:
        """Values to try the model with: small random numbers, and ones for integers."""
        rng, values = np.random.default_rng(0), {}
        for shape, kind, name in zip(*self.parts(), strict=True):
            sides = [max(int(side), 1) for side in shape.split(",")]
            dtype = np.dtype(kind.removeprefix("tf.")) if kind != "tf.string" else np.dtype("S1")
            values[name] = rng.random(sides).astype(dtype) if dtype.kind == "f" else np.ones(sides, dtype)
        return values


@dataclasses.dataclass(frozen=True)
class Report:
    """How far the exported model is from the live one.

    Attributes:
      pictures: how many were compared.
      detections: how many the live model found in them, at any score.
      boxes: the largest difference of a coordinate, normalised.
      scores: the largest difference of a score.
      masks: the largest difference of a mask's value, or None where there are no masks.
    """

    pictures: int
    detections: int
    boxes: float
    scores: float
    masks: float | None

    def line(self) -> str:
        """The report in one line."""
        masks = "" if self.masks is None else f", masks by {self.masks:.1e}"
        pictures = f"{self.pictures} picture{'s' * (self.pictures != 1)}"
        return (
            f"{self.detections} detections in {pictures}, live and re-loaded: the same classes; boxes "
            f"differ by at most {self.boxes:.1e}, scores by {self.scores:.1e}{masks}"
        )


def find_checkpoint(folder: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the newest checkpoint of a folder, without its ending; TensorFlow is not imported.

    A `checkpoint` file that names one is believed if it is there, also when the folder has been moved.

    Args:
      folder: a training folder, or one checkpoint in it without its ending, as `train/ckpt-7`.

    Raises:
      FileNotFoundError: if there is none, or a part of it is missing.
    """
    folder = pathlib.Path(folder)
    named = []
    if folder.is_dir():
        state = folder / "checkpoint"
        text = state.read_text(encoding="utf-8", errors="replace") if state.is_file() else ""
        if match := _STATE.search(text):
            named = [folder / match[1], folder / pathlib.PurePath(match[1]).name]
        numbered = [(int(match[1]), path) for path in folder.iterdir() if (match := _NUMBERED.search(path.name))]
        named += [path.with_name(path.name.removesuffix(".index")) for _, path in sorted(numbered, reverse=True)]
    else:
        named = [folder]
    for prefix in named:
        if pathlib.Path(f"{prefix}.index").is_file():
            if not list(prefix.parent.glob(f"{prefix.name}.data-00000-of-*")):
                raise FileNotFoundError(f"{prefix}.index: its .data file is missing; copy it from where it was made.")
            return prefix
    raise FileNotFoundError(
        f"{folder}: --trained_checkpoint_dir: no checkpoint (ckpt-N.index and .data) is there; give the --model_dir of "
        "tools/model_main_tf2.py."
    )


def check_output(folder: str | os.PathLike[str], *, overwrite: bool) -> pathlib.Path:
    """Returns the output folder as a path, if it may be written.

    Raises:
      ValueError: if it is a file, is not empty and `overwrite` is not set, or holds more than an export.
    """
    path = pathlib.Path(os.path.abspath(folder))
    if path.exists() and not path.is_dir():
        raise ValueError(f"{folder}: --output_directory must be a folder; a file is there.")
    held = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    if held and not overwrite:
        raise ValueError(f"{folder}: --output_directory is not empty; pass --overwrite to replace an earlier export.")
    other = [name for name in held if name not in PARTS]
    if other:
        raise ValueError(f"{folder}: --output_directory holds more than an export ('{other[0]}'); name a new folder.")
    return path


def read_pictures(folder: str | os.PathLike[str] | None, *, most: int = 16) -> list[np.ndarray]:
    """Reads the pictures to compare on: those of a folder, or the samples that travel with the package.

    Args:
      folder: searched with its sub-folders; None takes the samples.
      most: where there are more, so many are taken, evenly spread.

    Returns:
      [H, W, 3] uint8 each.

    Raises:
      ValueError: if a picture is broken.
      OSError: if there is none.
    """
    samples = pathlib.Path(__file__).parent.parent / "samples"
    paths = files.find_images(pathlib.Path(folder or samples), name="verify_images", option="--verify_images")
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int))
    paths = [paths[index] for index in chosen]
    pictures = (image_files.read_image(path).pixels for path in paths)
    return [contracts.to_uint8(contracts.to_float(pixels)) for pixels in pictures]


def export(
    config: Any,
    checkpoint: pathlib.Path,
    output: pathlib.Path,
    pictures: Sequence[np.ndarray],
    *,
    input_type: str = "image_tensor",
    side_inputs: SideInputs | None = None,
    label_map: pathlib.Path | None = None,
) -> Report:
    """Exports, re-loads, compares and publishes.

    Args:
      config: the `TrainEvalPipelineConfig`.
      checkpoint: the trained checkpoint, by `find_checkpoint`.
      output: the folder, by `check_output`; what is there is replaced.
      pictures: what to compare on, by `read_pictures`.
      input_type: one of `detector.INPUT_TYPES`.
      side_inputs: of `image_tensor` alone.
      label_map: the file to put beside the model.

    Returns:
      How far the exported model is from the live one.

    Raises:
      ValueError: if the checkpoint does not fit the configuration, or the exported model differs from the live one;
        what was at `output` before is untouched then.
      OSError: if it cannot be written.
    """
    if input_type not in detector.INPUT_TYPES:
        raise ValueError(
            f"--input_type must be one of {', '.join(detector.INPUT_TYPES)}. Received: '{input_type}'; "
            f"{contracts.nearest_name(input_type, detector.INPUT_TYPES)}"
        )
    if side_inputs and input_type != "image_tensor":
        raise ValueError(f"--use_side_inputs goes with --input_type image_tensor alone. Received: '{input_type}'.")
    compat.install()
    pictures = [detector.widen(pixels) for pixels in pictures]
    output.parent.mkdir(parents=True, exist_ok=True)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        made, tried = scratch / "export", scratch / "tried"
        tried.mkdir()
        with _fitting(checkpoint):
            write_export(config, checkpoint, made, input_type, side_inputs)
        examples = side_inputs.examples() if side_inputs else {}
        process = reloading.start(made / detector.SAVED_MODEL, pictures, tried, side_inputs=examples)
        try:
            live = run_live(config, checkpoint, pictures, examples)
            report = compare(live, reloading.finish(process, tried))
        finally:
            process.kill()
            process.wait()
        if label_map:
            shutil.copyfile(label_map, made / LABEL_MAP)
        _publish(made, output, scratch / "replaced")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return report


@contextlib.contextmanager
def _fitting(checkpoint: pathlib.Path) -> Iterator[None]:
    """Says in one line that a checkpoint is not of the configured model."""
    import tensorflow as tf

    try:
        yield
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        raise ValueError(
            f"{checkpoint}: the checkpoint does not fit the model of --pipeline_config_path; give the configuration "
            f"that it was trained with ({' '.join(str(error).split())[:300]})"
        ) from None


def write_export(
    config: Any, checkpoint: pathlib.Path, folder: pathlib.Path, input_type: str, side_inputs: SideInputs | None
) -> None:
    """Writes the SavedModel, the checkpoint and the configuration by TFOD's exporter."""
    from object_detection import exporter_lib_v2

    _quiet()
    mask_features.register()
    folder.mkdir()
    # TFOD takes a folder and exports random weights where it finds no checkpoint in it: here, it finds the one.
    with tempfile.TemporaryDirectory() as pointer:
        path = str(checkpoint.resolve()).replace("\\", "\\\\").replace('"', '\\"')
        pathlib.Path(pointer, "checkpoint").write_text(f'model_checkpoint_path: "{path}"\n', encoding="utf-8")
        shapes, types, names = (side_inputs.shapes, side_inputs.types, side_inputs.names) if side_inputs else ("",) * 3
        exporter_lib_v2.export_inference_graph(
            input_type, config, pointer, str(folder), bool(side_inputs), shapes, types, names
        )


def _quiet() -> None:
    """TensorFlow warns of what TFOD's code of 2022 does; a user of it can do nothing about that."""
    import absl.logging
    import tensorflow as tf

    absl.logging.set_verbosity(absl.logging.ERROR)
    tf.get_logger().setLevel("ERROR")


def run_live(
    config: Any, checkpoint: pathlib.Path, pictures: Sequence[np.ndarray], side_inputs: Mapping[str, np.ndarray]
) -> list[Found]:
    """Builds the model anew, restores the trained checkpoint and runs it over pictures.

    Raises:
      ValueError: if the checkpoint does not fit the model.
    """
    live = live_detector.LiveDetector(config, side_inputs=side_inputs)
    live.restore(checkpoint)
    return [live(pixels) for pixels in pictures]


def compare(live: Sequence[Found], exported: Sequence[Found]) -> Report:
    """Compares what two models found in the same pictures, detection by detection.

    Each detection of the live model must have one of its own among the exported model's: of its class, with its box,
    score and mask. Order does not matter. The last of a full list may be missing where its score is tied with the cut.

    Raises:
      ValueError: naming picture, detection and difference.
    """
    worst: dict[str, float] = {"boxes": 0.0, "scores": 0.0, "masks": 0.0}
    for index, (one, other) in enumerate(zip(live, exported, strict=True)):
        if (one.masks is None) != (other.masks is None):
            raise ValueError(f"picture {index}: the exported model differs from the live one: masks of one alone.")
        free = list(range(len(other.scores)))
        lost = []
        for i in range(len(one.scores)):
            match = _nearest(one, i, other, free)
            if match is None:
                lost.append(i)
                continue
            free.remove(match)
            for name, value in _differences(one, i, other, match).items():
                worst[name] = max(worst[name], value)
        _refuse(index, one, other, lost, free)
    masks = worst["masks"] if any(found.masks is not None for found in live) else None
    count = sum(len(found.scores) for found in live)
    return Report(len(live), count, worst["boxes"], worst["scores"], masks)


def _differences(one: Found, i: int, other: Found, j: int) -> dict[str, float]:
    result = {
        "boxes": float(np.abs(one.boxes[i] - other.boxes[j]).max()),
        "scores": float(abs(one.scores[i] - other.scores[j])),
    }
    if one.masks is not None and other.masks is not None:
        result["masks"] = float(np.abs(one.masks[i] - other.masks[j]).max())
    return result


def _nearest(one: Found, i: int, other: Found, free: Sequence[int]) -> int | None:
    """The free detection of `other` that is detection `i` of `one`, within the tolerances; the one of nearest box."""
    best, least = None, np.inf
    for j in free:
        if other.classes[j] != one.classes[i] or not np.isclose(
            one.scores[i], other.scores[j], rtol=SCORE_TOLERANCE, atol=1e-6
        ):
            continue
        found = _differences(one, i, other, j)
        if found["boxes"] <= min(BOX_TOLERANCE, least) and found.get("masks", 0.0) <= MASK_TOLERANCE:
            best, least = j, found["boxes"]
    return best


def _refuse(index: int, one: Found, other: Found, lost: list[int], free: list[int]) -> None:
    """Raises where a detection has no counterpart and no tie at the end of the list explains it."""
    for whose, found, unmatched in (("live", one, lost), ("exported", other, free)):
        tied = [i for i in unmatched if np.isclose(found.scores[i], found.scores.min(), rtol=SCORE_TOLERANCE)]
        if len(tied) == len(unmatched) and len(tied) <= _TIED_SHARE * len(found.scores):
            continue
        i = min(set(unmatched) - set(tied) or unmatched)
        raise ValueError(
            f"picture {index}: the exported model differs from the live one, so nothing was published: the {whose} "
            f"model alone finds class {found.classes[i]} at {np.round(found.boxes[i], 4).tolist()} with score "
            f"{found.scores[i]:.4f} ({len(lost)} of {len(one.scores)} without counterpart)."
        )


def _publish(made: pathlib.Path, output: pathlib.Path, replaced: pathlib.Path) -> None:
    """Flushes what was made and gives it its name in one step."""
    for path in made.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    if output.exists():
        output.rename(replaced)
    try:
        made.rename(output)
    except OSError:
        if replaced.exists():
            replaced.rename(output)
        raise
    contracts.fsync_folder(output.parent)
