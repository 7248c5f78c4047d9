"""Training a detector: `tools/model_main_tf2.py`'s loop against TFOD's own `train_loop`, as upstream runs it.

Each side trains EfficientDet-D0 at 256 pixels on the same generated records in a process of its own; the sides take
turns. All times are read from the event files that both write, so neither side is changed to be measured.
"""

from __future__ import annotations

import itertools
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[2]
PIPELINE = ROOT / "pipelines" / "ssd_efficientdet_d0_256x256_smoke.config"
ROUNDS, BATCH = 5, 4
# Steps of an iteration of upstream's loop, which writes summaries once in each (its default, 100, takes minutes here),
# and the number of iterations; the first two build graphs and do not count.
ITERATION, ITERATIONS, BUILDING = 3, 6, 2

_COMMON = f"""
import sys, resource
sys.path.insert(0, {str(ROOT)!r})
from tfllv.detection import compat
compat.install()
import tensorflow as tf
config, folder, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
"""
_END = "\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
_UPSTREAM = """
from object_detection import model_lib_v2
with tf.distribute.MirroredStrategy().scope():
    model_lib_v2.train_loop(config, folder, train_steps=steps, num_steps_per_iteration={iteration})
"""
_OURS = """
from tfllv.detection import launch, pipeline, training
options = training.Options(num_train_steps=steps, refresh_batch_norm=0, seconds_between_lines=1.0)
launch.train(pipeline.load(config), folder, options=options, say=lambda line: None)
"""


def detection_training() -> list[dict]:
    """Seconds a step, from the process's start to the first step done, and peak memory; medians of the rounds.

    The first step is dated by the first summary, less the steps after the first that it waits for. A step's time is
    that between summaries. The same batch, records and augmentation on both sides.
    """
    sides = {
        "TFOD's train_loop": _COMMON + _UPSTREAM.format(iteration=ITERATION) + _END,
        "model_main_tf2": _COMMON + _OURS + _END,
    }
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as folder:
        config = _write_inputs(pathlib.Path(folder))
        for number in range(ROUNDS):
            for name, code in sides.items():
                run = pathlib.Path(folder) / f"{name} {number}"
                measured[name].append(_measure(code, config, run))
    rows = []
    base = measured["TFOD's train_loop"]
    for name, rounds in measured.items():
        # Neighbours in time meet the same disturbance, so their ratio varies less than that of the medians.
        ratios = {
            key: statistics.median(one[key] / two[key] for one, two in zip(base, rounds, strict=True))
            for key in ("step", "start")
        }
        rows.append(
            {
                "side": name,
                "s a step": statistics.median(each["step"] for each in rounds),
                "times as fast": ratios["step"],
                "first step after s": statistics.median(each["start"] for each in rounds),
                "times as early": ratios["start"],
                "peak GB": statistics.median(each["peak"] for each in rounds),
                "rounds": ROUNDS,
            }
        )
    return rows


def _write_inputs(folder: pathlib.Path) -> pathlib.Path:
    """Records of the bundled photographs with a box each, and the configuration that reads them."""
    from tfllv.detection import pipeline
    from tfllv.records import exdark, framing, images, label_map, schema

    payloads = []
    for path in sorted((ROOT / "tfllv" / "samples").glob("*.jpg")):
        picture = images.take(path.read_bytes())
        corners = {schema.XMIN: [0.2], schema.YMIN: [0.2], schema.XMAX: [0.7], schema.YMAX: [0.8]}
        features = {
            schema.ENCODED: picture.data,
            schema.FORMAT: picture.kind,
            schema.HEIGHT: picture.height,
            schema.WIDTH: picture.width,
            schema.FILENAME: path.name,
            schema.SOURCE_ID: path.stem,
            schema.CLASS_TEXT: ["Bicycle"],
            schema.CLASS_LABEL: [1],
        }
        payloads.append(schema.serialize(features | corners))
    records = folder / "data-00000-of-00001"
    records.write_bytes(b"".join(framing.frame(data) for data in payloads))
    names = folder / "label_map.pbtxt"
    names.write_text(label_map.write(exdark.CLASSES))
    config = pipeline.load(PIPELINE, [f"train_config.batch_size={BATCH}"])
    for reader in ("train_input_reader", "eval_input_reader"):
        pipeline.apply_override(config, f"{reader}.label_map_path={names}")
        pipeline.apply_override(config, f"{reader}.tf_record_input_reader.input_path={records}")
    path = folder / "pipeline.config"
    path.write_text(pipeline.to_text(config))
    return path


def _measure(code: str, config: pathlib.Path, folder: pathlib.Path) -> dict[str, float]:
    """Runs one side once."""
    start = time.time()
    words = [str(config), str(folder), str(ITERATION * ITERATIONS)]
    run = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{folder.name} ended with {run.returncode}: {run.stderr[-1000:]}")
    points = _points(folder)
    first_step, first = points[0]
    late = [(step, when) for step, when in points if step > ITERATION * BUILDING]
    pace = statistics.median((b - a) / (j - i) for (i, a), (j, b) in itertools.pairwise(late))
    return {
        "step": pace,
        "start": first - start - (first_step - 1) * pace,
        "peak": float(run.stdout.split()[-1]) * 1024 / 1e9,
    }


def _points(folder: pathlib.Path) -> list[tuple[int, float]]:
    """(step, time) of each summary of the total loss."""
    from tensorboard.backend.event_processing import event_file_loader

    found: dict[int, float] = {}
    for path in folder.rglob("*tfevents*"):
        for event in event_file_loader.EventFileLoader(str(path)).Load():
            if any(value.tag == "Loss/total_loss" for value in event.summary.value):
                found[event.step] = event.wall_time
    return sorted(found.items())
