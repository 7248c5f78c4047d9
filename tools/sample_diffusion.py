"""Restores a folder of dark pictures by a diffusion model.

    python tools/sample_diffusion.py --conditional_image_dir night --output_image_dir bright
    python tools/sample_diffusion.py --conditional_image_dir night --input_image_dir day --output_image_dir bright

Pictures of any size and type; each result has its picture's name, size and type. With --input_image_dir (the well-lit
pictures, found by name) a side-by-side page with figures is written to OUTPUT/page/index.html. The same seed gives the
same pictures, whatever the batch size.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

PAGE = "page"


def build_parser() -> argparse.ArgumentParser:
    """Returns the tool's parser."""
    parser = argparse.ArgumentParser(prog="sample_diffusion.py", description=__doc__.split("\n")[0])
    parser.add_argument("--conditional_image_dir", required=True, metavar="DIR", help="the dark pictures")
    parser.add_argument("--output_image_dir", required=True, metavar="DIR", help="where the results go")
    parser.add_argument("--input_image_dir", metavar="DIR", help="well-lit pictures of the same names, for the page")
    parser.add_argument(
        "--annotation", metavar="FILE", help="JSON that lists the pictures to take under `filename`, or COCO's"
    )
    parser.add_argument("--weight_path", metavar="FILE", help="a .weights.h5 file (default: those shipped)")
    parser.add_argument(
        "--batch_size", type=int, default=16, metavar="N", help="tiles in one network call (default: 16)"
    )
    parser.add_argument(
        "--model", default="diffusion_unet_small", metavar="NAME", help="diffusion_unet for the full one"
    )
    parser.add_argument("--sampler", default="dpmpp2m", metavar="NAME", help="ddpm, ddim or dpmpp2m (default)")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="network calls a tile (default: 10)")
    parser.add_argument("--eta", type=float, default=0.0, metavar="X", help="of ddim, 0 to 1 (default: 0)")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="draws one of the pictures that fit (default: their middle)"
    )
    parser.add_argument(
        "--temperature", type=float, metavar="X", help="of the noise, 0 to 1 (default: 1 with --seed, 0 without)"
    )
    parser.add_argument("--tile", type=int, default=64, metavar="N", help="side of a tile in pixels (default: 64)")
    parser.add_argument("--overlap", type=int, metavar="N", help="pixels that tiles share (default: half a tile)")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of the network")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    return parser


def find_pictures(args: argparse.Namespace) -> list[pathlib.Path]:
    """Returns the dark pictures to restore, sorted by name.

    Raises:
      ValueError: if there is none, or one that the annotation names is missing.
      OSError: if the annotation cannot be read.
    """
    from tfllv import contracts
    from tfllv.inputs import noisy_pairs

    for name in ("conditional_image_dir", "input_image_dir"):
        folder = getattr(args, name)
        if folder is not None and not pathlib.Path(folder).is_dir():
            raise ValueError(f"`--{name}` must be a folder of pictures. Received: '{folder}', which is none.")
    found = {
        path.stem: path
        for path in sorted(pathlib.Path(args.conditional_image_dir).iterdir())
        if path.suffix.lower() in contracts.IMAGE_SUFFIXES and not path.name.startswith(".")
    }
    if not found:
        raise ValueError(f"`--conditional_image_dir` must hold pictures. Received: '{args.conditional_image_dir}'.")
    if not args.annotation:
        return list(found.values())
    names = [pathlib.Path(name).stem for name in noisy_pairs.read_names(args.annotation)]
    missing = sorted(set(names) - found.keys())
    if missing:
        raise ValueError(
            f"`--conditional_image_dir` must hold what `--annotation` lists. Received: '{missing[0]}', which is not in "
            f"'{args.conditional_image_dir}' ({len(missing)} of {len(names)} missing)."
        )
    return [found[name] for name in sorted(set(names))]


def write_page(args: argparse.Namespace, pictures: list[pathlib.Path]) -> pathlib.Path:
    """Writes the page of dark, restored and well-lit pictures; says which have no well-lit one."""
    from tfllv.evaluate import comparison, comparison_page

    about = {"kind": "network", "summary": f"{args.model}, {args.sampler}, {args.steps} steps"}
    made = comparison.compare_made(
        pictures, args.output_image_dir, "diffusion", reference=args.input_image_dir, about=about | {"source": ""}
    )
    for row in made.report["failed"]:
        print(f"page: {row['what']}: {row['reason']}", file=sys.stderr)
    missing = [image["file"] for image in made.report["images"] if image["reference"] is None]
    if missing:
        print(
            f"page: {len(missing)} of {len(pictures)} have no well-lit picture of their name and size in "
            f"'{args.input_image_dir}', such as {missing[0]}",
            file=sys.stderr,
        )
    for row in made.report["methods"]:
        if row["psnr"] is not None:
            print(f"{row['name']}: PSNR {row['psnr']:.2f} dB, mean of {row['psnr_pictures']} pictures")
    return comparison_page.write(made, pathlib.Path(args.output_image_dir) / PAGE, overwrite=True)


def run(args: argparse.Namespace) -> int:
    """Restores; returns 0, or 1 where a picture failed."""
    from tfllv import enhancers
    from tfllv.runner import files, plan

    pictures = find_pictures(args)
    if args.batch_size < 1:
        raise ValueError(f"`--batch_size` must be at least 1. Received: {args.batch_size}.")
    tasks = plan.plan_tasks(pictures, args.output_image_dir, overwrite=args.overwrite)
    names = ("model", "sampler", "steps", "eta", "temperature", "seed", "tile", "overlap")
    options = {name: getattr(args, name) for name in names}
    enhancer = enhancers.get(
        "diffusion", weights=args.weight_path, precision=args.precision, batch_size=args.batch_size, **options
    )
    pathlib.Path(args.output_image_dir).mkdir(parents=True, exist_ok=True)
    summary = files.run_tasks(tasks, enhancer)
    print(summary.line())
    if args.input_image_dir and summary.images:
        print(write_page(args, pictures))
    return summary.exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; wrong input is one line on standard error and exit 2."""
    args = build_parser().parse_args(argv)
    try:
        return run(args)
    except (ValueError, OSError) as error:
        print(f"sample_diffusion.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
