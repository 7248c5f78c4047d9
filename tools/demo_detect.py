"""The detection demo: from five photographs to an exported detector that finds their objects in dark scenes.

    python tools/demo_detect.py [--output runs/demo_detect]

The scenes are made here: a dark gallery in which the sample photographs hang, in other sizes and places each time, some
mirrored. A detector is trained on some of them from random weights, evaluated, exported and run on others that it has
never seen, each by the command that stands for it in the README. Ends in one page of detections.
"""

from __future__ import annotations

import argparse
import base64
import csv
import dataclasses
import html
import json
import os
import pathlib
import shlex
import shutil
import string
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from tfllv import contracts
from tfllv.detection import draw, examples, results, truth
from tfllv.inputs import image_files
from tfllv.ops import darken
from tfllv.records import label_map

TOOLS = pathlib.Path(__file__).resolve().parent
ROOT = TOOLS.parent
SAMPLES = ROOT / "tfllv" / "samples"
PIPELINE = "pipelines/ssd_efficientdet_d0_256x256_smoke.config"

# The object in each sample: left, top, right, bottom in pixels, by eye.
OBJECTS = {
    "astronaut": ("person", (18, 10, 368, 512)),
    "cat": ("cat", (6, 0, 392, 300)),
    "coffee": ("cup", (172, 18, 408, 306)),
    "flower": ("flower", (168, 84, 447, 361)),
    "temple": ("temple", (62, 28, 353, 400)),
}
NAMES = {name: number for number, name in enumerate(sorted(name for name, _ in OBJECTS.values()), 1)}
UNSEEN = "unseen.record-?????-of-?????"
HEIGHT, WIDTH = 288, 384  # of a scene, in pixels


@dataclasses.dataclass
class Scene:
    """A gallery: its picture and its objects.

    Attributes:
      pixels: [HEIGHT, WIDTH, 3] uint8.
      things: (name, (left, top, right, bottom) in pixels).
    """

    pixels: np.ndarray
    things: list[tuple[str, tuple[int, int, int, int]]]


def read_photographs() -> dict[str, np.ndarray]:
    """Returns the samples by name, [H, W, 3] uint8."""
    return {name: image_files.read_image(SAMPLES / f"{name}.jpg").pixels for name in OBJECTS}


def hang_scene(photographs: dict[str, np.ndarray], *, seed: int) -> Scene:
    """Hangs one to three photographs on a wall and puts out most of the light.

    Args:
      photographs: by name.
      seed: chooses all of it.
    """
    rng = np.random.default_rng([seed, 7])
    wall = rng.uniform(90, 200, 3) * np.linspace(1.0, rng.uniform(0.6, 1.4), HEIGHT)[:, None, None]
    pixels = np.clip(wall + rng.normal(0, 3, (HEIGHT, WIDTH, 1)), 0, 255).astype(np.uint8)
    number = int(rng.integers(1, 4))
    things = []
    for place, name in enumerate(rng.permutation(list(photographs))[:number]):
        label, (left, top, right, bottom) = OBJECTS[name]
        photograph, slot = _cut(photographs[name], (left, top, right, bottom), rng), WIDTH // number
        picture, box = photograph
        room = (slot - 16, HEIGHT - 16)
        scale = min(room[0] / picture.shape[1], room[1] / picture.shape[0]) * rng.uniform(0.75, 1.0)
        size = (max(int(picture.shape[1] * scale), 1), max(int(picture.shape[0] * scale), 1))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        box = tuple(round(side * scale) for side in box)
        if rng.random() < 0.5:
            picture, box = picture[:, ::-1], (size[0] - box[2], box[1], size[0] - box[0], box[3])
        x = slot * place + int(rng.integers(8, slot - size[0] - 7))
        y = int(rng.integers(8, HEIGHT - size[1] - 7))
        cv2.rectangle(pixels, (x - 4, y - 4), (x + size[0] + 3, y + size[1] + 3), rng.uniform(20, 80, 3).tolist(), -1)
        pixels[y : y + size[1], x : x + size[0]] = picture
        things.append((label, (x + box[0], y + box[1], x + box[2], y + box[3])))
    dark = darken.darken(contracts.to_float(pixels), "photographic", seed, shadows=(0.1, 0.4), brightness=(0.15, 0.5))
    return Scene(contracts.to_uint8(np.asarray(dark)), things)


def _cut(
    photograph: np.ndarray, box: tuple[int, int, int, int], rng: np.random.Generator
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Cuts the photograph to a window around its object; returns the window and the box in it."""
    height, width = photograph.shape[:2]
    left, top, right, bottom = box
    keep = rng.uniform(0.0, 0.6, 4)  # of what is beside the object
    x0, y0 = int(left * (1 - keep[0])), int(top * (1 - keep[1]))
    x1, y1 = right + int((width - right) * keep[2]), bottom + int((height - bottom) * keep[3])
    return photograph[y0:y1, x0:x1], (left - x0, top - y0, right - x0, bottom - y0)


def write_scenes(folder: pathlib.Path, seeds: Sequence[int]) -> None:
    """Writes scenes as PNG, and their objects as boxes.csv beside the folder."""
    photographs = read_photographs()
    folder.mkdir(parents=True)
    with (folder.parent / f"{folder.name}.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"])
        for seed in seeds:
            scene = hang_scene(photographs, seed=seed)
            image_files.write_image(folder / f"{seed:03}.png", scene.pixels)
            for name, box in scene.things:
                table.writerow([f"{seed:03}.png", WIDTH, HEIGHT, name, *box])


def overrides(folder: pathlib.Path, steps: int) -> list[str]:
    """What differs from the pipeline that is trained."""
    reader = "label_map_path={0}/label_map.pbtxt", "tf_record_input_reader.input_path={0}/{1}.record-?????-of-?????"
    lines = [f"train_input_reader.{line.format(folder / 'records', 'train')}" for line in reader]
    lines += [f"eval_input_reader.{line.format(folder / 'records', 'unseen')}" for line in reader]
    rate = "train_config.optimizer.adam_optimizer.learning_rate.cosine_decay_learning_rate"
    lines += [f"{rate}.total_steps={steps}", f"{rate}.warmup_steps={steps // 10}", f"train_config.num_steps={steps}"]
    # No two objects share a place here, so the best class of a place suppresses the others.
    nms = "model.ssd.post_processing.batch_non_max_suppression"
    return [f"model.ssd.num_classes={len(NAMES)}", f"{nms}.use_class_agnostic_nms=true", *lines]


def call(title: str, *words: object, background: bool = False) -> subprocess.Popen[str]:
    """Shows and runs one of the tools; waits for it unless it is to run beside the next.

    Raises:
      ValueError: if it fails.
    """
    tool, *rest = (str(word) for word in words)
    print(f"\n{title}\n  python tools/{tool} {shlex.join(rest)}", flush=True)
    process = subprocess.Popen([sys.executable, str(TOOLS / tool), *rest], cwd=ROOT, text=True)
    if not background:
        finish(tool, process)
    return process


def finish(name: str, process: subprocess.Popen[str]) -> None:
    """Waits for a tool.

    Raises:
      ValueError: if it fails.
    """
    if process.wait():
        raise ValueError(f"{name} failed with exit code {process.returncode}; what it said stands above.")


def write_records(folder: pathlib.Path, name: str) -> None:
    """Makes records of the scenes `name` and their boxes."""
    call(
        f"Records of the {name} scenes",
        "create_csv_tf_record.py",
        *("--csv_input", folder / f"{name}.csv", "--image_dir", folder / name, "--workers", 1, "--num_shards", 1),
        *("--label_map_path", folder / "label_map.pbtxt", "--output_dir", folder / "records"),
    )


def run(folder: pathlib.Path, *, steps: int, scenes: int, unseen: int) -> pathlib.Path:
    """Makes everything in an empty folder; returns the page."""
    start = time.perf_counter()
    model, exported, found = (folder / name for name in ("model", "exported", "found"))
    write_scenes(folder / "train", range(scenes))
    write_scenes(folder / "unseen", range(scenes, scenes + unseen))
    (folder / "label_map.pbtxt").write_text(label_map.write(NAMES), encoding="utf-8")
    for name in ("train", "unseen"):
        write_records(folder, name)
    shared = ["--pipeline_config_path", PIPELINE, "--override", *overrides(folder, steps)]
    call("Training from random weights", "model_main_tf2.py", *shared, "--model_dir", model)
    trained = ["--pipeline_config_path", model / "pipeline.config"]
    # Both build the model, on one core for the most part.
    evaluation = call(
        "Evaluation on unseen scenes",
        "model_main_tf2.py",
        *(*trained, "--model_dir", model, "--checkpoint_dir", model, "--eval_timeout", 0),
        background=True,
    )
    try:
        call(
            "Export",
            "exporter_main_v2.py",
            *(*trained, "--trained_checkpoint_dir", model, "--output_directory", exported),
            *("--verify_images", folder / "unseen"),
        )
    finally:
        evaluation.wait()
    finish("model_main_tf2.py", evaluation)
    call(
        "Detection in unseen scenes",
        "run_inference.py",
        *("--images_folder_dir", folder / "unseen", "--model_dir", exported),
        *("--save_detection", "--save_path", found),
    )
    metrics = json.loads((model / "eval" / "evaluation.json").read_text(encoding="utf-8"))["metrics"]["bbox"]
    return write_page(folder, metrics["AP50"], steps, scenes, time.perf_counter() - start)


def write_page(folder: pathlib.Path, ap50: float, steps: int, scenes: int, seconds: float) -> pathlib.Path:
    """Writes the page of detections: each unseen scene, drawn on as it is and on a brightened copy."""
    detections = results.read(folder / "found" / "detections.json")
    scenes_of = {image.file: image for image in truth.from_records(str(folder / "records" / UNSEEN)).images}
    compared = [examples.compare(scenes_of[image.file], image) for image in detections.images]
    figures = [_figure(folder, each, detections.label_map) for each in compared]
    objects = sum(len(each.missed) for each in compared)
    right = objects - sum(int(each.missed.sum()) for each in compared)
    wrong = sum(int(each.false.sum()) for each in compared)
    text = string.Template(TOOLS.joinpath("demo_detect.html").read_text(encoding="utf-8")).substitute(
        found=right,
        objects=objects,
        scenes=len(figures),
        ap50=f"{100 * ap50:.1f}",
        about=html.escape(
            f"EfficientDet-D0 at 256 pixels, trained for {steps} steps from random weights on {scenes} scenes of a "
            f"dark gallery; these {len(figures)} hang otherwise and were never seen. {seconds:.0f} s for everything, "
            f"on {os.cpu_count()} CPU cores."
        ),
        wrong=wrong,
        figures="".join(figures),
    )
    page = folder / "index.html"
    image_files.write_bytes(page, text.encode())
    print(
        f"\n{right} of {objects} objects found in {len(figures)} unseen scenes, {wrong} false detections, "
        f"AP50 {100 * ap50:.1f} %."
    )
    return page


def _figure(folder: pathlib.Path, example: examples.Example, names: Any) -> str:
    """Returns a scene of the page: drawn on as it is, and on a brightened copy."""
    found = example.found
    pixels = image_files.read_image(folder / "unseen" / found.file).pixels
    bright = contracts.to_uint8(contracts.to_float(pixels) ** np.float32(0.45))
    lit = draw.draw_detections(bright, found.boxes, found.classes, found.scores, names)
    dark = image_files.read_image(folder / "found" / found.file).pixels
    alt = ", ".join(names[int(number)] for number in found.classes) or "nothing found"
    pictures = "".join(
        f'<img class="{kind}" src="data:image/jpeg;base64,{_encode(each)}" alt="{html.escape(alt)}" '
        f'width="{found.width}" height="{found.height}">'
        for kind, each in (("lit", lit), ("dark", dark))
    )
    missed = [names[int(number)] for number in example.truth.classes[example.missed]]
    notes = [f"missed: {', '.join(missed)}"] if missed else ["all found"]
    notes += [f"{example.false.sum()} false"] if example.false.any() else []
    caption = f"<b>{html.escape(found.file)}</b> {html.escape('; '.join(notes))}"
    return f"<figure>{pictures}<figcaption>{caption}</figcaption></figure>"


def _encode(pixels: np.ndarray) -> str:
    return base64.b64encode(image_files.encode_image(".jpg", pixels, quality=88)).decode("ascii")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; returns 0, or 1 where a step failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "runs" / "demo_detect")
    parser.add_argument("--steps", type=int, default=400, metavar="N", help="of training (default: %(default)s)")
    parser.add_argument("--scenes", type=int, default=48, metavar="N", help="to train on (default: %(default)s)")
    parser.add_argument("--unseen", type=int, default=12, metavar="N", help="to detect in (default: %(default)s)")
    args = parser.parse_args(argv)
    start = time.perf_counter()
    folder = args.output.absolute()
    if (folder / "records").is_dir():  # an earlier run; a folder of anything else is left alone
        shutil.rmtree(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        page = run(folder, steps=args.steps, scenes=args.scenes, unseen=args.unseen)
    except (ValueError, OSError) as error:
        print(f"demo_detect.py: {error}", file=sys.stderr)
        return 1
    print(f"Done in {time.perf_counter() - start:.0f} s. Open {page} in a browser.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
