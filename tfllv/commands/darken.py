"""`tfllv darken IN... -o OUT --recipe NAME --seed N`: darkens images and folders of images. Imports no TensorFlow."""

from __future__ import annotations

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("paths", nargs="*", metavar="IN", help="images, folders or globs")
    parser.add_argument("-o", "--output", metavar="OUT", help="a folder, or a file name where there is one input")
    parser.add_argument("--recipe", default="statistical", metavar="NAME", help="as --list says (default: statistical)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all random choices (default: 0)")
    parser.add_argument(
        "--set",
        metavar="OPTION=VALUE",
        nargs="+",
        action="extend",
        default=[],
        dest="options",
        help="options of the recipe: a number as in gamma=5, or a range as in gamma=[3,8]",
    )
    parser.add_argument("-r", "--recursive", action="store_true", help="look into sub-folders too")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    parser.add_argument("--threads", type=int, metavar="N", help="pictures in work at once (default: cores)")
    parser.add_argument("--quality", type=int, default=95, metavar="N", help="of JPEG and WebP, 1 to 100 (default: 95)")
    parser.add_argument("--list", action="store_true", help="list the recipes with their options, and stop")


def run(args: argparse.Namespace) -> int:
    """Darkens; returns 0 if all inputs were done, 1 if any was not."""
    if args.list:
        print(_describe_recipes())
        return 0
    if not args.paths or args.output is None:
        raise ValueError("`IN` and `--output` must be given. Received: no " + ("IN." if not args.paths else "OUT."))
    import cv2

    from tfllv.runner import darken

    # A bad file is named in one line of ours; what the decoders print about it beside that helps nobody.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    summary = darken.darken_files(
        args.paths,
        args.output,
        args.recipe,
        seed=args.seed,
        options=_parse_options(args.options),
        recursive=args.recursive,
        overwrite=args.overwrite,
        threads=args.threads,
        quality=args.quality,
    )
    print(summary.line())
    return summary.exit_code


def _parse_options(words: list[str]) -> dict[str, Any]:
    import yaml

    options = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.isidentifier():
            raise ValueError(f"`--set` must be OPTION=VALUE. Received: '{word}'.")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        options[key] = _to_numbers(value)
    return options


def _to_numbers(value: Any) -> Any:
    """Reads what YAML leaves as text, such as 1e-4."""
    if isinstance(value, list):
        return [_to_numbers(part) for part in value]
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _describe_recipes() -> str:
    from tfllv.ops import darken

    lines = []
    for name, recipe in darken.RECIPES.items():
        lines += [f"{name}: {recipe.summary}", f"  from {recipe.source}"]
        for key, option in recipe.options.items():
            default = list(option.default) if isinstance(option.default, tuple) else option.default
            lines.append(f"  {key}={str(default).replace(' ', '').lower()}: {option.summary}")
    return "\n".join(lines)
