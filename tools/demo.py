"""The demo: dark versions of the sample photographs, enhanced by SGZ and the eight classical methods, on one page.

    python tools/demo.py [--output runs/demo]

A truth exists, because the samples are darkened here: low = gain * high ** gamma + noise, with gamma, gain and noise
drawn from a seed a picture, rounded to uint8 and saved as PNG. Needs nothing but the package.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time

import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tfllv import contracts, enhancers, models  # noqa: E402
from tfllv.evaluate import comparison, comparison_page  # noqa: E402

SAMPLES = ROOT / "tfllv" / "samples"


def darken(image: np.ndarray, *, seed: int) -> np.ndarray:
    """Darkens a picture as a too short exposure would: a power law, a gain and Gaussian read noise.

    Args:
      image: [H, W, 3] uint8.
      seed: chooses gamma in [1.5, 2.5], gain in [0.3, 0.5] and the noise.

    Returns:
      [H, W, 3] uint8, dark.
    """
    rng = np.random.default_rng(seed)
    gamma, gain = rng.uniform(1.5, 2.5), rng.uniform(0.3, 0.5)
    dark = gain * contracts.to_float(image) ** np.float32(gamma)
    return contracts.to_uint8(dark + rng.normal(0, 0.008, image.shape).astype(np.float32))


def write_pairs(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes each sample and its dark version as PNG; returns the folders (dark, truth)."""
    dark, truth = folder / "dark", folder / "truth"
    for each in (dark, truth):
        each.mkdir(parents=True, exist_ok=True)
    for seed, path in enumerate(sorted(SAMPLES.glob("*.jpg"))):
        with Image.open(path) as picture:
            image = np.asarray(picture.convert("RGB"))
        Image.fromarray(image).save(truth / f"{path.stem}.png")
        Image.fromarray(darken(image, seed=seed)).save(dark / f"{path.stem}.png")
    return dark, truth


def choose_methods() -> list[str]:
    """Returns the networks whose weights are shipped, then the classical methods."""
    networks = [name for name in models.MODELS if name in enhancers.METHODS and models.shipped_weights(name)]
    return networks + [name for name, method in enhancers.METHODS.items() if method.kind == "classical"]


def main() -> int:
    """Runs the demo; returns 0, or 1 where a method failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "runs" / "demo")
    args = parser.parse_args()
    begin = time.perf_counter()
    dark, truth = write_pairs(args.output)
    result = comparison.compare([dark], reference=truth, methods=choose_methods(), say=print)
    page = comparison_page.write(result, args.output, overwrite=True)
    for row in result.report["failed"]:
        print(f"failed {row['what']}: {row['reason']}", file=sys.stderr)
    print(f"\n{'method':24s}{'PSNR':>8s}{'SSIM':>8s}{'NIQE':>8s}{'ms':>9s}")
    for row in result.report["methods"]:
        figures = [row["psnr"], row["ssim"], row["niqe"], row["median_seconds"] and 1000 * row["median_seconds"]]
        widths = ((8, 2), (8, 3), (8, 2), (9, 1))
        cells = (f"{'-':>{w}s}" if f is None else f"{f:{w}.{d}f}" for f, (w, d) in zip(figures, widths, strict=True))
        print(f"{row['name']:24s}{''.join(cells)}")
    print(f"\nDone in {time.perf_counter() - begin:.0f} s. Open {page} in a browser.")
    return 1 if result.report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
