"""Detectors as files of other runtimes: what converters are given, and the comparison before a file appears.

A detector computes numbers and chooses by them: which proposals go on, which boxes suppress others. Of two equal scores
rounding decides, so what a file chose is compared by how much of it is found again, and what it computed, given what it
had chosen, is compared number by number with the detector in float64.
"""

from __future__ import annotations

import contextlib
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from tfllv.export import detection, float64, signatures, straight, verify
from tfllv.inputs import image_files

BOXES, CLASSES, SCORES, MASKS = "detection_boxes", "detection_classes", "detection_scores", "detection_masks"
COUNT = "num_detections"
# What is found before overlapping boxes are suppressed.
RAW = ("raw_detection_boxes", "raw_detection_scores")
# What goes on to the second stage of detectors of two.
PROPOSALS = "proposal_boxes_normalized"
# Of every class, [N, classes or 1, h, w], before those of the classes found are taken.
_MASKS_OF_CLASSES = "mask_predictions"
_ROUNDING = 1e-6  # of float32, over some layers


@contextlib.contextmanager
def straightened(source: detection.Source) -> Iterator[pathlib.Path]:
    """Saves a detector for converters: `serving_default`, `image` [1, H, W, 3] float32 in [0, 1] -> TFOD's outputs."""
    function = straight.straighten(source.frozen, (*detection.OUTPUTS, *RAW, PROPOSALS))
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(tf.Module(), folder, signatures={signatures.FLOATS: function}, options=options)
        yield pathlib.Path(folder)


def publish(source: detection.Source, name: str, made: pathlib.Path, path: pathlib.Path, *, kind: str) -> str:
    """Writes a converted file to `path` if it finds what the detector finds; returns the agreement in words.

    Raises:
      verify.MismatchError: if it is not good enough.
      OSError: if it cannot be written.
    """
    parameters = sum(int(np.prod(variable.shape)) for variable in source.signature.variables)
    verify.check_size(name, made.stat().st_size, parameters, "float32")
    agreement = compare(source, name, made, kind=kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    image_files.write_bytes(path, made.read_bytes())
    return agreement


def compare(source: detection.Source, name: str, path: pathlib.Path, *, kind: str) -> str:
    """Compares a converted file with its detector, on photographs; returns the agreement in words.

    Raises:
      verify.MismatchError: if it is not good enough.
    """
    pictures = verify.photographs()
    images = [picture[None] / np.float32(255) for picture in pictures]
    call = {"kind": kind, "path": path, "signature": signatures.FLOATS, "inputs": images}
    (found,) = verify.run_fresh([call])
    missing = sorted({*detection.OUTPUTS, *RAW, PROPOSALS} & source.frozen.outputs.keys() - found[0].keys())
    if missing:
        raise verify.MismatchError(f"{name}: outputs {sorted(found[0])} found; expected {missing} too.")
    for key, values in ((key, each[key]) for each in found for key in each):
        verify.check_finite(f"{name} `{key}`", values)
    # TensorFlow's own float32 shows that float64 computes the same, and how far rounding goes in this network.
    own = [{key: value.numpy() for key, value in source.run(picture[None]).items()} for picture in pictures]
    if not set(RAW) <= found[0].keys():  # it does not say from what it chose
        pairs = {
            key: [(one[key], right[key]) for one, right in zip(found, own, strict=True)] for key in sorted(found[0])
        }
        return ", ".join(verify.compare_all(f"{name} `{key}`", pairs[key], "float32") for key in pairs)
    given = [key for key in (PROPOSALS, RAW[1], BOXES) if key in found[0]]
    truth = float64.widen(source.frozen, (*found[0], _MASKS_OF_CLASSES), given)

    def exact(image: np.ndarray, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        chosen = {key: tf.constant(rows[key]) for key in given}
        return {key: value.numpy() for key, value in truth(image=tf.constant(image), **chosen).items()}

    ours, theirs = (
        [(rows, exact(image, rows)) for image, rows in zip(images, side, strict=True)] for side in (found, own)
    )
    lines = []
    for names in _chosen(*ours[0]):
        verify.compare_boxes(f"{name} in TensorFlow `{names[0]}`", [_rows(names, *each) for each in theirs])
        lines.append(verify.compare_boxes(f"{name} `{names[0]}`", [_rows(names, *each) for each in ours]))
    computed, reference = ([_computed(*each) for each in side] for side in (ours, theirs))
    for key in computed[0]:
        files, tensorflow = ([each[key] for each in side] for side in (computed, reference))
        # A sigmoid makes a quarter, at most, of what its logits are off, and these round by their range.
        logits = [np.abs(right.get(_MASKS_OF_CLASSES, 0.0)).max() if key == MASKS else 0.0 for _, right in ours]
        rounding = [_ROUNDING * float(each) / 4 for each in logits]
        lines.append(verify.compare_with_exact(f"{name} `{key}`", files, tensorflow, rounding=rounding))
    return ", ".join(lines)


def _chosen(found: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]) -> list[tuple[str, ...]]:
    """The outputs that are rows which the detector chose; masks that float64 says nothing else of are part of them."""
    masks = [MASKS] if MASKS in found and _MASKS_OF_CLASSES not in right else []
    return [*([(PROPOSALS,)] if PROPOSALS in found else []), (BOXES, SCORES, CLASSES, *masks)]


def _rows(names: Sequence[str], *sides: Mapping[str, np.ndarray]) -> tuple[Mapping[str, np.ndarray], ...]:
    """Takes some outputs of the one picture of a batch, without the rows of zeros at their ends."""
    cut = []
    for side in sides:
        boxes = side[names[0]][0]
        filled = len(boxes) if boxes.any() else 0
        count = int(side[COUNT][0]) if names[0] == BOXES else filled - int(np.argmax(boxes[::-1].any(-1)))
        cut.append({name: side[name][0][:count] for name in names})
    return tuple(cut)


def _computed(
    found: Mapping[str, np.ndarray], right: Mapping[str, np.ndarray]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The outputs that are numbers, of one picture, and what they should be."""
    pairs = {key: (found[key], right[key]) for key in RAW}
    if MASKS in found and _MASKS_OF_CLASSES in right:
        every = right[_MASKS_OF_CLASSES]
        classes = np.clip(found[CLASSES][0].astype(int) - 1, 0, every.shape[1] - 1)
        logits = every[np.arange(len(every)), classes]
        pairs[MASKS] = found[MASKS][0], 0.5 + 0.5 * np.tanh(0.5 * logits)
    return pairs
