"""`tfllv compare`: every method side by side on one page, with measured figures."""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `tfllv compare`."""
    parser.add_argument("paths", nargs="+", metavar="PATH", help="images, folders or globs")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for index.html and compare.json")
    parser.add_argument(
        "--reference", metavar="DIR", help="folder of true pictures of the same names: adds PSNR and SSIM"
    )
    parser.add_argument("--methods", default="all", metavar="A,B", help="names of `tfllv list`, or all (default)")
    parser.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="weights of a network; may be given for several; default: those shipped",
    )
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="timed runs of each picture (default: 5)")
    parser.add_argument("--overwrite", action="store_true", help="replace the report in a folder that exists")


def run(args: argparse.Namespace) -> int:
    """Writes the report; returns 0, or 1 where a picture or a method failed."""
    from tfllv.evaluate import comparison, comparison_page

    comparison_page.check_target(args.output, overwrite=args.overwrite)
    result = comparison.compare(
        args.paths,
        methods=args.methods,
        reference=args.reference,
        weights=_parse_weights(args.weights),
        runs=args.runs,
        say=lambda line: print(line, file=sys.stderr),
    )
    page = comparison_page.write(result, args.output, overwrite=args.overwrite)
    for row in result.report["skipped"]:
        print(f"skipped {row['method']}: {row['reason']}", file=sys.stderr)
    for row in result.report["failed"]:
        print(f"failed {row['what']}: {row['reason']}", file=sys.stderr)
    print(page)
    return 1 if result.report["failed"] else 0


def _parse_weights(words: list[str]) -> dict[str, str]:
    pairs = {}
    for word in words:
        name, separator, file = word.partition("=")
        if not (name and separator and file):
            raise ValueError(f"`weights` must be NAME=FILE. Received: '{word}'.")
        pairs[name] = file
    return pairs
