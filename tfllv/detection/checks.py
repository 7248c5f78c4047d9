"""What would fail, or quietly train nothing, is said before TensorFlow is imported: one line a problem.

    problems = checks.check(config, "pipelines/mine.config", checks.Run(num_train_steps=1000))

A line names the file, the field, what stands there and what to do. The rules on learning rates come from the TF2 zoo,
whose momentum configurations have between 5e-4 and 1.6e-3 of learning rate for each image of the batch.
"""

from __future__ import annotations

import dataclasses
import glob
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

from tfllv.detection import pipeline, record_checks
from tfllv.records import label_map

# Of learning rate for each image of the batch. The zoo's highest is 0.8 / 512 = 1.56e-3; 0.08 for a batch of 32, which
# diverges or needs luck, is 2.5e-3.
MOST_RATE_PER_IMAGE = 2e-3
MOST_ADAM_RATE = 0.01
_ZOO_RATE_PER_IMAGE = 0.08 / 128


@dataclasses.dataclass(frozen=True)
class Run:
    """What the command line says about a run.

    Attributes:
      num_train_steps: the step to stop at; None: that of the configuration.
      num_workers: machines, each of which reads its own share of the files.
      trains: whether it trains; optimizer, batch and starting checkpoint are checked only then.
      reads: `train` or `eval`: the input reader whose label map and records are checked.
    """

    num_train_steps: int | None = None
    num_workers: int = 1
    trains: bool = True
    reads: str = "train"


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that must be changed.

    Attributes:
      file: where it stands.
      field: the field of the configuration, by dots.
      found: what stands there.
      fix: what to do.
    """

    file: str
    field: str
    found: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}: {self.field}: {self.found}; {self.fix}"


def check(config: Any, path: str, run: Run | None = None) -> list[Problem]:
    """Checks a configuration and what it names.

    Args:
      config: a pipeline configuration.
      path: its file, for the messages.
      run: what the command line adds.

    Returns:
      The problems; none where training or evaluation can begin.
    """
    run = run or Run()
    if config.model.WhichOneof("model") is None:
        return [
            Problem(path, "model", "no architecture", "write model { ssd { ... } } or model { faster_rcnn { ... } }")
        ]
    checks: tuple[Callable[[Any, Run], Iterator[tuple[str, str, str]]], ...] = (_check_side,)
    if run.trains:
        checks += (_check_batch, _check_rate, _check_schedule, _check_fine_tuning)
    problems = [Problem(path, *found) for each in checks for found in each(config, run)]
    return problems + list(_check_reader(config, path, run))


def _check_side(config: Any, run: Run) -> Iterator[tuple[str, str, str]]:
    """The side of the pictures that the network sees."""
    name, architecture = config.model.WhichOneof("model"), pipeline.model(config)
    if not hasattr(architecture, "image_resizer"):
        return
    kind = architecture.image_resizer.WhichOneof("image_resizer_oneof")
    place = f"model.{name}.image_resizer"
    if kind is None:
        yield place, "no resizer", "write image_resizer { fixed_shape_resizer { height: 512 width: 512 } }"
        return
    multiple, least = _legal_sides(architecture)
    resizer = getattr(architecture.image_resizer, kind)
    if kind == "keep_aspect_ratio_resizer" and not resizer.pad_to_max_dimension:
        if multiple > 1:
            fix = "set pad_to_max_dimension: true, for the sides must be the same multiple in every picture"
            yield f"{place}.{kind}.pad_to_max_dimension", "false", fix
        return
    for field in ("max_dimension",) if kind == "keep_aspect_ratio_resizer" else ("height", "width"):
        side = getattr(resizer, field, None)
        if side is not None and (side % multiple or side < least):
            near = max(round(side / multiple) * multiple, least)
            fix = f"{_extractor(architecture)} takes multiples of {multiple} from {least} on: set {near}"
            yield f"{place}.{kind}.{field}", str(side), fix


def _extractor(architecture: Any) -> str:
    return architecture.feature_extractor.type if hasattr(architecture, "feature_extractor") else "this model"


def _legal_sides(architecture: Any) -> tuple[int, int]:
    """(multiple, least) of a side in pixels; (1, 1) where anything goes."""
    kind = _extractor(architecture)
    padded = getattr(getattr(architecture, "feature_extractor", None), "pad_to_multiple", 1)
    if "efficientnet" in kind:
        # The pyramid halves seven times and adds what it doubles again.
        return (1, 1) if padded % 128 == 0 else (128, 256)
    if kind.startswith("ssd_") and "fpn" in kind:
        return (1, 1) if padded % 32 == 0 else (32, 160 if "resnet" in kind else 64)
    return 1, 1


def _check_batch(config: Any, run: Run) -> Iterator[tuple[str, str, str]]:
    batch = config.train_config.batch_size
    if batch < 1 or batch % run.num_workers:
        fix = f"set a multiple of the {run.num_workers} workers" if run.num_workers > 1 else "set 1 or more"
        yield "train_config.batch_size", str(batch), fix
    if not (run.num_train_steps or config.train_config.num_steps):
        yield "train_config.num_steps", "0", "set the number of steps, or give --num_train_steps"


def _rate_message(config: Any) -> tuple[str, Any, str]:
    """The place, message and kind of the optimizer's learning rate."""
    optimizer = config.train_config.optimizer
    kind = optimizer.WhichOneof("optimizer")
    if kind is None:
        return "train_config.optimizer", None, ""
    rate = getattr(optimizer, kind).learning_rate
    schedule = rate.WhichOneof("learning_rate")
    place = f"train_config.optimizer.{kind}.learning_rate"
    return (f"{place}.{schedule}", getattr(rate, schedule), kind) if schedule else (place, None, kind)


_HIGHEST = ("learning_rate_base", "initial_learning_rate", "learning_rate")


def _check_rate(config: Any, run: Run) -> Iterator[tuple[str, str, str]]:
    """The highest learning rate, for this batch."""
    place, schedule, kind = _rate_message(config)
    if schedule is None:
        yield place, "none", "give an optimizer with a learning rate"
        return
    field = next(name for name in _HIGHEST if name in schedule.DESCRIPTOR.fields_by_name)
    rate, batch = getattr(schedule, field), max(config.train_config.batch_size, 1)
    if not (rate > 0 and math.isfinite(rate)):
        yield f"{place}.{field}", f"{rate:g}", "set a number above 0"
    elif kind == "adam_optimizer" and rate > MOST_ADAM_RATE:
        yield f"{place}.{field}", f"{rate:g}", "Adam diverges above 0.01: set 0.001"
    elif kind == "momentum_optimizer" and rate > MOST_RATE_PER_IMAGE * batch:
        fix = f"too much for a batch of {batch}, the zoo's 0.08 goes with 128: set {batch * _ZOO_RATE_PER_IMAGE:.3g}"
        yield f"{place}.{field}", f"{rate:g}", fix


def _check_schedule(config: Any, run: Run) -> Iterator[tuple[str, str, str]]:
    """The cosine's length against the number of steps."""
    place, schedule, _ = _rate_message(config)
    if schedule is None or not place.endswith("cosine_decay_learning_rate"):
        return
    if schedule.warmup_learning_rate > schedule.learning_rate_base and schedule.warmup_steps:
        fix = f"set at most learning_rate_base, {schedule.learning_rate_base:g}"
        yield f"{place}.warmup_learning_rate", f"{schedule.warmup_learning_rate:g}", fix
    total, configured = schedule.total_steps, config.train_config.num_steps
    steps = run.num_train_steps or configured
    if schedule.warmup_steps >= total:
        yield f"{place}.warmup_steps", str(schedule.warmup_steps), f"set less than total_steps, {total}"
    if total < steps:
        yield f"{place}.total_steps", str(total), f"the rate is 0 from there to step {steps}: set {steps}"
    # A few steps of a long schedule are a trial, if the configuration itself is in order.
    elif configured and total > 2 * configured and steps >= configured:
        fix = f"training ends at step {steps}, where the rate would still be near its highest: set {steps}"
        yield f"{place}.total_steps", str(total), fix


_KNOWN_TYPES = ("classification", "detection", "full", "fine_tune")


def _check_fine_tuning(config: Any, run: Run) -> Iterator[tuple[str, str, str]]:
    """The checkpoint that training starts from: there, of TensorFlow 2, and of the type that is said."""
    train = config.train_config
    path, kind = train.fine_tune_checkpoint, train.fine_tune_checkpoint_type
    if not path:
        return
    place = "train_config.fine_tune_checkpoint"
    if not os.path.isfile(f"{path}.index"):
        inside = sorted(glob.glob(os.path.join(glob.escape(path), "*.index"))) if os.path.isdir(path) else []
        fix = (
            f"did you mean {inside[-1].removesuffix('.index')}?" if inside else "unpack the zoo's archive and name its"
        )
        yield place, f"'{path}', no such checkpoint", fix if inside else f"{fix} checkpoint/ckpt-0, or set '' for none"
        return
    if not kind and train.from_detection_checkpoint:
        kind = "detection"
    if kind and kind not in _KNOWN_TYPES:
        yield f"{place}_type", f"'{kind}'", f'set "detection" for a detector, one of {", ".join(_KNOWN_TYPES)}'
        return
    with open(f"{path}.index", "rb") as file:
        index = file.read()
    if b"_CHECKPOINTABLE_OBJECT_GRAPH" not in index:
        yield place, f"'{path}', a TensorFlow 1 checkpoint", "take the model from the TF2 detection zoo"
        return
    is_detector = b"model/_" in index
    if is_detector and kind in ("", "classification"):
        yield f"{place}_type", f"'{kind or 'classification'}'", f'{path} holds a whole detector: set "detection"'
    elif not is_detector and kind in ("detection", "full"):
        yield f"{place}_type", f"'{kind}'", f'{path} holds no detector: set "classification"'
    # Field number 1 is V1, the default, for which TFOD raises an error.
    if train.fine_tune_checkpoint_version != 2:
        yield f"{place}_version", "V1", "set V2"


def _check_reader(config: Any, path: str, run: Run) -> Iterator[Problem]:
    """The label map and the records of training, or of evaluation."""
    evaluates = run.reads == "eval"
    if evaluates and not config.eval_input_reader:
        yield Problem(path, "eval_input_reader", "none", "add one, as train_input_reader")
        return
    place = "eval_input_reader" if evaluates else "train_input_reader"
    reader = config.eval_input_reader[0] if evaluates else config.train_input_reader
    ids: dict[str, int] | None = None
    try:
        ids = label_map.read(reader.label_map_path)
    except FileNotFoundError:
        fix = "name the label map, as pipelines/exdark_label_map.pbtxt"
        yield Problem(path, f"{place}.label_map_path", f"'{reader.label_map_path}', no such file", fix)
    except (OSError, ValueError) as error:
        yield Problem(path, f"{place}.label_map_path", f"'{reader.label_map_path}'", str(error))
    if ids is not None:
        yield from _check_classes(config, path, reader.label_map_path, ids)
    if reader.WhichOneof("input_reader") != "tf_record_input_reader":
        yield Problem(
            path, f"{place}.tf_record_input_reader", "none", "write tf_record_input_reader { input_path: ... }"
        )
        return
    shards: list[str] = []
    for pattern in reader.tf_record_input_reader.input_path:
        found = sorted(glob.glob(pattern))
        shards += found
        if not found:
            where = f"{place}.tf_record_input_reader.input_path"
            fix = "name the records, as records/exdark/exdark_train.record-?????-of-?????"
            yield Problem(path, where, f"'{pattern}', no such file", fix)
    if shards and len(shards) < run.num_workers and run.trains:
        fix = f"write them as {run.num_workers} shards or more, each worker reads its own"
        yield Problem(path, f"{place}.tf_record_input_reader.input_path", f"{len(shards)} files", fix)
    if ids is not None:
        for shard, field, value, fix in record_checks.check(shards, ids, reader):
            yield Problem(shard, field, value, fix)


def _check_classes(config: Any, path: str, file: str, ids: dict[str, int]) -> Iterator[Problem]:
    architecture = pipeline.model(config)
    if not hasattr(architecture, "num_classes"):
        return
    count, name = architecture.num_classes, max(ids, key=lambda each: ids[each])
    if count != ids[name]:
        field = f"model.{config.model.WhichOneof('model')}.num_classes"
        fix = f"the highest id in {file} is {ids[name]} ('{name}'): set {ids[name]}, or take another label map"
        yield Problem(path, field, str(count), fix)
