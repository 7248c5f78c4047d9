"""The command line: `tfllv COMMAND ...`. Parsing only; the work is in the packages the commands name.

Only the module of the command that is called is imported, so `tfllv --help` answers without TensorFlow.
A command module has `add_arguments(parser)` and `run(args) -> int` (the exit code), and imports heavy packages inside
`run`. Wrong input is a ValueError or OSError: one line on standard error, exit 2.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from tfllv import __version__

COMMANDS: dict[str, tuple[str, str]] = {
    "enhance": ("brighten dark images, folders or videos", "tfllv.commands.enhance"),
    "segment": ("write every pixel's class of dark images", "tfllv.commands.segment"),
    "darken": ("darken well-lit images by a named recipe and a seed", "tfllv.commands.darken"),
    "compare": ("put every method side by side on one page, with measured figures", "tfllv.commands.compare"),
    "train": ("train a network from a configuration file", "tfllv.commands.train"),
    "evaluate": ("score results, or find leaks between two sets of pictures", "tfllv.commands.evaluate"),
    "import-weights": (
        "convert published PyTorch weights; executes nothing from the file",
        "tfllv.commands.import_weights",
    ),
    "export": ("write a network for TF Serving or a phone, compared before it appears", "tfllv.commands.export"),
    "records": ("check TFRecords, and take the whole records out of damaged ones", "tfllv.commands.records"),
    "serve": ("serve a page and an HTTP service within limits", "tfllv.commands.serve"),
    "list": ("list the methods and networks", "tfllv.commands.list"),
}

_LOADING_OPTION = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}


def build_parser(command: str | None) -> argparse.ArgumentParser:
    """Builds the parser; the arguments of `command` alone are added, the other commands show only their summary."""
    parser = argparse.ArgumentParser(prog="tfllv", description="Low-light vision on TensorFlow and Keras.")
    parser.add_argument("--version", action="version", version=f"tfllv {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (summary, module) in COMMANDS.items():
        child = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == command:
            importlib.import_module(module).add_arguments(child)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 done, 1 some inputs failed, 2 wrong use or input."""
    words = list(sys.argv[1:] if argv is None else argv)
    command = next((word for word in words if not word.startswith("-")), None)
    args = build_parser(command).parse_args(words)
    for name, value in _LOADING_OPTION.items():
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module(COMMANDS[args.command][1]).run(args)
    except (ValueError, OSError) as error:
        if os.environ.get("TFLLV_DEBUG"):
            raise
        print(f"tfllv {args.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"tfllv {args.command}: stopped.", file=sys.stderr)
        return 130
