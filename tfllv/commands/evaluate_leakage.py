"""`tfllv evaluate leakage A B`: names the pictures of one scene in two sets."""

from __future__ import annotations

import argparse
import json
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    for name in ("a", "b"):
        parser.add_argument(
            name, metavar=name.upper(), help="a folder, a CSV file with images, or a column of it, as pairs.csv:low"
        )
    parser.add_argument("--flip", action="store_true", help="look for mirrored pictures too")
    parser.add_argument("--threshold", type=float, metavar="X", help="least score of one scene (default: 0.4)")
    parser.add_argument("-o", "--output", metavar="FILE.json", help="the pairs as JSON; replaced if there")


def run(args: argparse.Namespace) -> int:
    """Prints a line for each pair found; returns 1 if there is any, 0 if not."""
    from tfllv.commands.evaluate_restoration import check_output
    from tfllv.evaluate import leakage
    from tfllv.inputs import image_files
    from tfllv.ops import similarity

    check_output(args.output)
    sets = [leakage.list_images(source, name=name) for name, source in (("a", args.a), ("b", args.b))]
    threshold = similarity.THRESHOLD if args.threshold is None else args.threshold
    report = leakage.find_leaks(*sets, threshold=threshold, flip=args.flip)
    if args.output:
        text = json.dumps({"a": args.a, "b": args.b, **report}, indent=1, ensure_ascii=False)
        image_files.write_bytes(args.output, text.encode("utf-8"))
    for pair in report["pairs"]:
        marks = "".join(f", {mark}" for mark in ("equal", "flipped") if pair[mark])
        print(f"{pair['score']:.3f}{marks}  {pair['a']}  {pair['b']}")
    for path in report["textureless"]:
        print(f"{path} has no edges: only an equal picture is found", file=sys.stderr)
    print(
        f"{report['leaked_a']} of {report['count_a']} images of A show a scene of B, {report['leaked_b']} of "
        f"{report['count_b']} of B a scene of A (score >= {threshold:g})"
    )
    return 1 if report["pairs"] else 0
