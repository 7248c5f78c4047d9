"""Compares the samplers of a diffusion model on the same weights, pictures and starting noise.

    python tools/compare_samplers.py --csv ../shared/data/sice/pairs_val.csv --count 16 --output runs/samplers

Crops of the trained size from the middle of each picture, all samplers from the same noise: PSNR against the truth on
uint8 RGB (mean and 95 % bootstrap interval), the difference to the first row with its interval over the pictures, and
the time of a picture. Writes samplers.json and samplers.png (dark, every sampler, truth).
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import time
from collections.abc import Sequence

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Sampler and steps, None for all times of the schedule; the first is what the others are compared with.
SAMPLERS = (("ddpm", None), ("dpmpp2m", 10), ("dpmpp2m", 20), ("ddim", 10), ("ddim", 50), ("ddpm", 50))


def build_parser() -> argparse.ArgumentParser:
    """Returns the tool's parser."""
    parser = argparse.ArgumentParser(prog="compare_samplers.py", description=__doc__.split("\n")[0])
    parser.add_argument("--csv", required=True, metavar="FILE", help="columns low and high, paths relative to it")
    parser.add_argument("--weights", metavar="FILE", help="of the network (default: those shipped)")
    parser.add_argument("--model", default="diffusion_unet_small", metavar="NAME", help="a diffusion network")
    parser.add_argument("--count", type=int, default=16, metavar="N", help="pictures, evenly from the table")
    parser.add_argument("--size", type=int, default=64, metavar="N", help="side of a crop after shrinking")
    parser.add_argument("--crop", type=int, default=256, metavar="N", help="side of the square that is shrunk to it")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the noise")
    parser.add_argument(
        "--temperature", type=float, default=0.0, metavar="X", help="the noise's deviation (default: 0)"
    )
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("runs/samplers"), metavar="DIR")
    return parser


def read_crops(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (dark, truth, level of the whole dark picture): [N, size, size, 3] twice, [N]."""
    import cv2

    from tfllv.inputs import files, pairs

    columns = pairs.find_pairs(args.csv, name="--csv")
    chosen = np.linspace(0, len(columns["low"]) - 1, min(args.count, len(columns["low"]))).round().astype(int)
    found: dict[str, list[np.ndarray]] = {"low": [], "high": []}
    levels = []
    for index in chosen:
        for key in found:
            image = files.read_pixels(columns[key][index])
            side = min(args.crop, *image.shape[:2])
            top, left = ((length - side) // 2 for length in image.shape[:2])
            square = image[top : top + side, left : left + side]
            found[key].append(cv2.resize(square, (args.size, args.size), interpolation=cv2.INTER_AREA))
            if key == "low":
                levels.append(image.mean() / 255)
    low, high = (np.stack(found[key]).astype(np.float32) / 255 for key in ("low", "high"))
    return low, high, np.float32(levels)


def sample_all(
    args: argparse.Namespace, low: np.ndarray, level: np.ndarray
) -> dict[tuple[str, int], tuple[np.ndarray, float]]:
    """Returns (pictures, seconds) of each sampler; the same noise starts every one, one batch at a time."""
    import tensorflow as tf
    from tqdm import tqdm

    from tfllv import models
    from tfllv.diffusion import denoiser, samplers, schedules
    from tfllv.runner import networks

    net = models.build(args.model)
    networks.load_weights(net, args.model, args.weights)
    schedule = schedules.make(net.schedule)
    base, condition = net.base(low, level), net.condition(low, level)
    estimate = tf.function(net.estimate)

    def denoise(noisy: np.ndarray, at: int) -> np.ndarray:
        said = estimate(tf.constant(noisy), condition, tf.fill([len(noisy)], at)).numpy()
        return denoiser.to_signal(
            net.prediction, said, noisy, np.float32(schedule.alpha[at]), np.float32(schedule.sigma[at])
        )

    def noise(step: int) -> np.ndarray:
        rng = np.random.default_rng((args.seed, step + 1))
        return np.float32(args.temperature) * rng.standard_normal(low.shape, np.float32)

    start = noise(-1)
    denoise(start, len(schedule) - 1)  # traced before the clock runs
    results = {}
    for name, asked in SAMPLERS:
        steps = asked or len(schedule) - schedule.end
        with tqdm(total=steps, desc=f"{name} {steps}", disable=not sys.stderr.isatty()) as bar:
            began = time.perf_counter()
            signal = samplers.sample(
                name,
                denoise,
                start,
                schedule,
                steps=steps,
                noise=noise,
                on_step=lambda *_, bar=bar: bar.update(),
            )
            seconds = time.perf_counter() - began
        picture = np.clip(np.asarray(net.picture(np.asarray(signal, np.float32), base)), 0, 1)
        results[name, steps] = (picture, seconds)
        print(f"{name} {steps}: {seconds:.1f} s", flush=True)
    return results


def score(results: dict[tuple[str, int], tuple[np.ndarray, float]], low: np.ndarray, high: np.ndarray) -> list[dict]:
    """Returns the table's rows."""
    from tfllv.evaluate import bootstrap
    from tfllv.metrics import fidelity

    def psnr(pictures: np.ndarray) -> np.ndarray:
        return np.array([fidelity.psnr(a, b, quantize=True) for a, b in zip(pictures, high, strict=True)])

    first = next(iter(results))
    against, slow = psnr(results[first][0]), results[first][1]
    rows: list[dict] = [{"sampler": "dark input", "steps": 0, "psnr": float(psnr(low).mean())}]
    for (name, steps), (pictures, seconds) in results.items():
        values = psnr(pictures)
        rows.append(
            {
                "sampler": name,
                "steps": steps,
                "psnr": float(values.mean()),
                "interval": bootstrap.mean_interval(values),
                "difference": float((values - against).mean()),
                "difference_interval": bootstrap.mean_interval(values - against),
                "seconds_per_picture": seconds / len(high),
                "faster": slow / seconds,
            }
        )
    return rows


def run(args: argparse.Namespace) -> int:
    """Compares; returns the exit code."""
    if args.count < 1 or not 8 <= args.size <= args.crop:
        raise ValueError(
            f"`--count` must be at least 1 and `--crop` at least `--size`, >= 8. Received: {args.count}, {args.crop} "
            f"and {args.size}."
        )
    from tfllv import contracts
    from tfllv.inputs import image_files
    from tfllv.train import checkpoints

    low, high, level = read_crops(args)
    results = sample_all(args, low, level)
    rows = score(results, low, high)
    args.output.mkdir(parents=True, exist_ok=True)
    text = (
        json.dumps(
            {"pictures": len(low), "size": args.size, "crop": args.crop, "temperature": args.temperature, "rows": rows},
            indent=1,
        )
        + "\n"
    )
    checkpoints.write_atomically(args.output / "samplers.json", lambda file: file.write(text.encode()))
    columns = [low, *(pictures for pictures, _ in results.values()), high]
    grid = np.concatenate([np.concatenate(list(column), axis=0) for column in columns], axis=1)
    image_files.write_image(args.output / "samplers.png", contracts.to_uint8(grid))
    print(f"{len(low)} pictures of {args.size}x{args.size}; temperature {args.temperature:g}; PSNR in dB, uint8 RGB")
    for row in rows:
        words = [f"{row['sampler']:>10} {row['steps']:>5}  {row['psnr']:6.2f}"]
        if "interval" in row:
            words.append("({:.2f} to {:.2f})".format(*row["interval"]))
            words.append("{:+.2f} ({:+.2f} to {:+.2f})".format(row["difference"], *row["difference_interval"]))
            words.append(f"{row['seconds_per_picture']:.3f} s  {row['faster']:.1f} times as fast")
        print("  ".join(words))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool."""
    args = build_parser().parse_args(argv)
    try:
        return run(args)
    except (ValueError, OSError) as error:
        print(f"compare_samplers.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
