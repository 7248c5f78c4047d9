"""Compares what the darkening recipes make of well-lit photographs with photographs that are dark.

    python tools/calibrate_darkening.py --data ../shared/data

Well lit are the references of SICE pairs and CamVid street scenes, dark those of LOL and ExDark, to which the default
recipe was calibrated, and of LIME, DICM and MEF, which it never saw. Compared are grey levels (BT.601 luma, of 255)
pooled over all pictures with equal weight, and the mean levels of the pictures. Distances: Wasserstein-1 in levels of
255, and Kolmogorov-Smirnov. Results go to runs/calibration/: darkening.png, examples.png and darkening.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import pathlib
import sys
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tfllv import contracts  # noqa: E402
from tfllv.inputs import files  # noqa: E402
from tfllv.ops import darken  # noqa: E402

SAMPLES = 4096  # pixels of a picture that count
DARK_MEAN = 64  # of DICM and MEF, which also hold bright scenes, pictures up to this mean level

VARIANTS: dict[str, tuple[str, dict]] = {
    "statistical": ("statistical", {}),
    "statistical, published v1": ("statistical", {"reference": True, "version": 1}),
    "statistical, published v2": ("statistical", {"reference": True, "version": 2}),
    "gamma_noise": ("gamma_noise", {}),
    "photographic": ("photographic", {}),
    "raw": ("raw", {}),
}


def real_photographs(data: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Returns the dark photographs: those calibrated to, then those kept back."""
    found = {
        "LOL": [*(data / "lol/eval15/low").glob("*.png"), *(data / "lol/our485/low").glob("*.png")],
        "ExDark": list((data / "exdark/mini/ExDark").glob("*/*")),
        "kept back": [path for name in ("lime", "dicm", "mef") for path in (data / name).iterdir()],
    }
    return {name: sorted(paths) for name, paths in found.items()}


def well_lit_photographs(data: pathlib.Path, count: int) -> list[pathlib.Path]:
    """Returns `count` well-lit photographs, half of SICE and half of CamVid, evenly spread."""
    with open(data / "sice/pairs_train.csv", encoding="utf-8", newline="") as file:
        sice = sorted({data / "sice" / row["high"] for row in csv.DictReader(file)})
    camvid = sorted((data / "camvid/train").glob("*.jpg"))
    half = [paths[:: max(1, len(paths) // (count // 2))][: count // 2] for paths in (sice, camvid)]
    return half[0] + half[1]


def grey_levels(image: np.ndarray) -> np.ndarray:
    """Returns the grey levels of an evenly spread sample of pixels: [SAMPLES] in [0, 255]."""
    pixels = contracts.to_uint8(image).reshape(-1, 3)
    picked = pixels[np.linspace(0, len(pixels) - 1, SAMPLES).astype(int)]
    return picked @ np.array(contracts.BT601_LUMA)


def read_levels(paths: Sequence[pathlib.Path], change: Callable[[np.ndarray, int], np.ndarray] | None) -> np.ndarray:
    """Returns the grey levels of pictures, changed or not: [N, SAMPLES]."""
    images = (files.read_pixels(path) for path in paths)
    return np.stack([grey_levels(change(image, i) if change else image) for i, image in enumerate(images)])


def distances(levels: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """Returns the distances between two sets of pictures, each [N, SAMPLES]."""
    means, real_means = levels.mean(1), real.mean(1)
    return {
        "levels_w1": float(stats.wasserstein_distance(levels.ravel(), real.ravel())),
        "means_w1": float(stats.wasserstein_distance(means, real_means)),
        "means_ks": float(stats.ks_2samp(means, real_means).statistic),
    }


def draw_histograms(levels: dict[str, np.ndarray], real: dict[str, np.ndarray], path: pathlib.Path) -> None:
    """Draws each recipe's histogram of grey levels over that of the real photographs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(13, 6.5), sharex=True, sharey=True, layout="constrained")
    bins = np.arange(0, 161, 2)
    for axis, (name, values) in zip(axes.flat, levels.items(), strict=True):
        for (label, dark), color in zip(real.items(), ("tab:blue", "tab:green", "tab:gray"), strict=True):
            axis.hist(dark.ravel(), bins, density=True, histtype="step", color=color, label=f"real: {label}")
        axis.hist(values.ravel(), bins, density=True, alpha=0.45, color="tab:orange", label="recipe")
        axis.set_title(f"{name}: mean {values.mean():.1f}")
        axis.set_ylim(0, 0.09)
    for axis in axes[1]:
        axis.set_xlabel("grey level of 255")
    axes[0, 0].legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_examples(paths: Sequence[pathlib.Path], real: Sequence[pathlib.Path], path: pathlib.Path) -> None:
    """Draws photographs, what each recipe makes of them, and real dark ones in the last row."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    columns = {"well lit": None, **VARIANTS}
    figure, axes = plt.subplots(len(paths) + 1, len(columns), figsize=(21, 3 * len(paths) + 3), layout="constrained")
    for row, source in enumerate(paths):
        image = files.read_pixels(source)
        for axis, (name, variant) in zip(axes[row], columns.items(), strict=True):
            axis.imshow(image if variant is None else darken.darken(image, variant[0], row, **variant[1]))
            axis.set_title(name)
    for axis, source in zip(axes[-1], real, strict=False):
        axis.imshow(files.read_pixels(source))
        axis.set_title("real")
    for axis in axes.flat:
        axis.axis("off")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main() -> int:
    """Measures, prints the table, writes figure and figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=pathlib.Path, default=ROOT.parent / "shared" / "data", help="the research data")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "runs" / "calibration")
    parser.add_argument("--images", type=int, default=120, help="well-lit photographs to darken")
    args = parser.parse_args()
    if not (args.data / "lol").is_dir():
        parser.error(f"--data must hold lol, exdark, sice, camvid, lime, dicm and mef; '{args.data}' does not")
    args.output.mkdir(parents=True, exist_ok=True)
    real_paths, paths = real_photographs(args.data), well_lit_photographs(args.data, args.images)
    real = {name: read_levels(found, None) for name, found in real_paths.items()}
    real["kept back"] = real["kept back"][real["kept back"].mean(1) <= DARK_MEAN]
    targets = {"LOL and ExDark": np.concatenate([real["LOL"], real["ExDark"]]), **real}
    levels, rows = {}, []
    for name, (recipe, options) in VARIANTS.items():
        levels[name] = read_levels(paths, lambda image, i, r=recipe, o=options: darken.darken(image, r, [1, i], **o))
        rows += [{"recipe": name, "against": label, **distances(levels[name], dark)} for label, dark in targets.items()]
    print(f"{'recipe':27}{'against':17}{'levels W1':>10}{'means W1':>10}{'means KS':>10}{'mean':>8}")
    for row in rows:
        numbers = f"{row['levels_w1']:10.2f}{row['means_w1']:10.2f}{row['means_ks']:10.2f}"
        print(f"{row['recipe']:27}{row['against']:17}{numbers}{levels[row['recipe']].mean():8.1f}")
    counts = {name: len(values) for name, values in {**real, "well lit": paths}.items()}
    (args.output / "darkening.json").write_text(json.dumps({"pictures": counts, "distances": rows}, indent=2) + "\n")
    draw_histograms(levels, real, args.output / "darkening.png")
    draw_examples(
        paths[:: len(paths) // 5][:5], real_paths["LOL"][:4] + real_paths["ExDark"][:3], args.output / "examples.png"
    )
    print(f"wrote {args.output}/darkening.png, examples.png and darkening.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
