"""`tfllv evaluate restoration`: scores restored pictures against their truths, by every protocol side by side."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from typing import Any

from tfllv.commands import enhance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--pred", metavar="DIR", help="pictures to score; a picture's truth has its name")
    parser.add_argument("--method", metavar="NAME", help="or a name of `tfllv list`, run on the dark pictures first")
    parser.add_argument("--config", metavar="FILE", help="or a YAML file that names it, as for `tfllv enhance`")
    parser.add_argument("--weights", metavar="FILE", help="weights of a network (default: those shipped)")
    parser.add_argument("--precision", choices=enhance.PRECISIONS, help="of a network (default: float32)")
    parser.add_argument(
        "--set", metavar="OPTION=VALUE", nargs="+", action="extend", default=[], dest="options", help="of the method"
    )
    parser.add_argument("--low", metavar="DIR", help="dark pictures for --method (with --csv: what `low` is under)")
    parser.add_argument("--truth", metavar="DIR", help="true pictures (with --csv: what `high` is under)")
    parser.add_argument(
        "--csv", metavar="FILE", help="pairs: columns low, high and, if known, scene; paths are relative to it"
    )
    parser.add_argument("--metrics", metavar="A,B", help="keys of metrics, as psnr,ssim (default: all)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the bootstrap (default: 0)")
    parser.add_argument("-o", "--output", metavar="FILE.json", help="every number, image by image; replaced if there")


def run(args: argparse.Namespace) -> int:
    """Prints the table; returns 0, or 1 where a pair was missing or could not be scored."""
    method, options = _choose(args)
    from tfllv.evaluate import image_pairs, restoration
    from tfllv.inputs import image_files

    check_output(args.output)
    names = [name.strip() for name in args.metrics.split(",") if name.strip()] if args.metrics is not None else None
    restoration.choose_metrics(names)
    if args.csv:
        pairs, missing = image_pairs.pair_table(args.csv, pictures=args.pred, truths=args.truth, low=args.low)
    elif args.pred:
        pairs, missing = image_pairs.pair_folders(args.pred, args.truth)
    else:
        pairs, missing = image_pairs.pair_folders(args.low, args.truth, argument="low")
    image_pairs.check_sizes(pairs)
    # Everything a user can get wrong is found by now: TensorFlow, which takes seconds, is imported for work alone.
    enhancer = enhance.get_enhancer(method, options) if method else None
    report = restoration.evaluate(
        pairs,
        enhancer=enhancer,
        names=names,
        missing=missing,
        about={"method": method, "options": options, "pred": args.pred, "csv": args.csv, "truth": args.truth},
        seed=args.seed,
        progress=sys.stderr.isatty(),
    )
    if args.output:
        text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False)
        image_files.write_bytes(args.output, text.encode("utf-8"))
    scored = f"{len(report['images'])} of {len(report['images']) + len(report['failed']) + len(missing)}"
    print(f"{method or args.pred} against {args.csv or args.truth}: {scored} pairs\n")
    print(restoration.table(report))
    for line in missing:
        print(f"missing: {line}", file=sys.stderr)
    for row in report["failed"]:
        print(f"failed {row['what']}: {row['reason']}", file=sys.stderr)
    return 1 if missing or report["failed"] else 0


def _choose(args: argparse.Namespace) -> tuple[str | None, dict[str, Any]]:
    """Returns the method and its options, or (None, {}) for finished pictures; checks what goes with what."""
    chosen = args.method or args.config or args.weights
    if bool(args.pred) == bool(chosen):
        given = "both" if args.pred else "neither"
        raise ValueError(f"either `--pred` or `--method` must be given. Received: {given}.")
    if args.pred and (args.options or args.precision):
        raise ValueError("`--set` and `--precision` are for `--method`. Received: `--pred`.")
    if args.pred and args.low:
        raise ValueError("`--low` is for `--method`. Received: `--pred`.")
    if not args.csv and not args.truth:
        raise ValueError("`--truth` or `--csv` must be given. Received: neither.")
    if chosen and not args.csv and not args.low:
        raise ValueError("`--low` or `--csv` must be given with `--method`. Received: neither.")
    # The seed here is the bootstrap's, not a sampler's.
    named = argparse.Namespace(**{**vars(args), "seed": None})
    return enhance.choose_method(named) if chosen else (None, {})


def check_output(output: str | None) -> None:
    """Checks before any work that a file can be written there."""
    if output is None:
        return
    path = pathlib.Path(output)
    if path.is_dir():
        raise IsADirectoryError(f"`--output` must be a file. Received: '{output}', which is a folder.")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"`--output` must be in a folder that exists. Received: '{output}'.")
