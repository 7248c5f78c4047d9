"""`tfllv import-weights NAME FILE.pth -o OUT.weights.h5`: published PyTorch weights to a Keras weights file."""

from __future__ import annotations

import argparse
import hashlib
import os
import pathlib
from typing import Any

from tfllv import contracts

SUFFIX = ".weights.h5"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("name", metavar="NAME", help="network, see `tfllv list`")
    parser.add_argument("file", metavar="FILE.pth", type=pathlib.Path, help="PyTorch weights (.pth or .pt)")
    parser.add_argument(
        "-o", "--output", metavar="OUT.weights.h5", type=pathlib.Path, required=True, help="the file to write"
    )
    parser.add_argument(
        "--set", metavar="OPTION=VALUE", action="append", default=[], help="an option of the network; may be repeated"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT where it exists")


def run(args: argparse.Namespace) -> int:
    """Runs the command.

    Raises:
      ValueError: if the network, an option, the output's name or the file is wrong.
      OSError: if the output exists or cannot be written.
    """
    check_output(args.output, overwrite=args.overwrite)
    options = parse_options(args.set)

    from tfllv import models
    from tfllv.models.torch_import import import_weights

    models.entry(args.name)
    model = import_weights(args.name, args.file, models.build(args.name, **options))
    digest = write_weights(model, args.output)
    print(f"{args.output}: {len(model.weights)} tensors, {model.count_params():,} parameters, sha256 {digest}")
    return 0


def check_output(path: pathlib.Path, *, overwrite: bool) -> None:
    """Checks that a weights file may be written there, before the work.

    Raises:
      ValueError: if the name does not end with `.weights.h5`.
      OSError: if the file exists and may not be replaced, or its folder does not exist.
    """
    if not path.name.endswith(SUFFIX) or path.name == SUFFIX:
        raise ValueError(f"`--output` must end with {SUFFIX}. Received: {path}")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already; give --overwrite to replace it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder {path.parent} does not exist; make it first")


def parse_options(words: list[str]) -> dict[str, Any]:
    """Parses `option=value` words; a value is read as YAML, so that 12 is a number and dsc is text.

    Raises:
      ValueError: if a word has no `=`, or its value is not YAML.
    """
    import yaml

    options = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not separator or not name:
            raise ValueError(f"`--set` must be OPTION=VALUE. Received: '{word}'")
        try:
            options[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ValueError(f"`--set` must have a number, a word or true/false. Received: '{word}'") from None
    return options


def write_weights(model: Any, path: pathlib.Path) -> str:
    """Writes a network's weights so that the file is whole or not there, and survives a power cut.

    Args:
      model: a built `keras.Model`.
      path: a file name that ends with `.weights.h5`; replaced where it exists.

    Returns:
      The SHA-256 of the file, in hexadecimal.

    Raises:
      OSError: if it cannot be written.
    """
    # Keras checks the suffix, so the temporary name keeps it.
    temporary = path.with_name(f".{path.name.removesuffix(SUFFIX)}.{os.getpid()}{SUFFIX}")
    try:
        model.save_weights(temporary, overwrite=True)
        with open(temporary, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    contracts.fsync_folder(path.parent)
    return digest
