"""`tfllv enhance PATH... -o OUT`: brightens images, folders of images, and videos. TensorFlow only for networks."""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import warnings
from typing import Any

PRECISIONS = ("float32", "bfloat16")
_RUNTIMES = ("tensorflow", "openvino")
_DEFAULT_METHOD = "sgz"
_SMALLEST_TILE = 64
_DIFFUSION = ("sampler", "steps", "seed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="images, folders, globs or videos; or a set of TFRecords"
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="a folder, or a file name where there is one input"
    )
    parser.add_argument("--method", metavar="NAME", help=f"a name of `tfllv list` (default: {_DEFAULT_METHOD})")
    parser.add_argument("--weights", metavar="FILE", help="weights of a network (default: those shipped)")
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="YAML with method, weights, precision, runtime and the method's options, or an experiment file such as "
        "configs/sgz.yaml, whose network is taken; the command line wins",
    )
    parser.add_argument("--precision", choices=PRECISIONS, help="of a network's convolutions (default: float32)")
    parser.add_argument(
        "--runtime", choices=_RUNTIMES, help="of SGZ, Zero-DCE and Zero-DCE++ (default: tensorflow; extra [openvino])"
    )
    parser.add_argument("--sampler", metavar="NAME", help="of diffusion: ddpm, ddim or dpmpp2m (default: dpmpp2m)")
    parser.add_argument("--steps", type=int, metavar="N", help="of diffusion: network calls a tile (default: 10)")
    parser.add_argument(
        "--seed", type=int, metavar="N", help="of diffusion: draws one of the pictures that fit (default: their middle)"
    )
    parser.add_argument(
        "--tile", default="auto", metavar="auto|off|N", help=f"side of a tile in pixels, >= {_SMALLEST_TILE}"
    )
    parser.add_argument(
        "--record_format", default="jpeg", choices=("jpeg", "png"), help="of pictures in TFRecords (default: jpeg, 95)"
    )
    parser.add_argument("-r", "--recursive", action="store_true", help="look into sub-folders too")
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    parser.add_argument("--threads", type=int, metavar="N", help="pictures in work at once (default: cores + 1)")
    parser.add_argument("--quality", type=int, default=95, metavar="N", help="of JPEG and WebP, 1 to 100 (default: 95)")
    parser.add_argument(
        "--smoothing",
        type=float,
        default=0.9,
        metavar="X",
        help="of video: weight of the past against flicker, in [0, 1) (default: 0.9)",
    )
    parser.add_argument(
        "--set",
        metavar="OPTION=VALUE",
        nargs="+",
        action="extend",
        default=[],
        dest="options",
        help="options of the method, as in scale_factor=1",
    )


def run(args: argparse.Namespace) -> int:
    """Enhances; returns 0 if all inputs were done, 1 if any was not."""
    method, options = choose_method(args)
    _check_numbers(args)
    from tfllv.runner import files, plan, records

    if any(records.is_set(path) for path in args.paths):
        return _enhance_records(args, method, options)

    tasks = plan.plan_tasks(args.paths, args.output, recursive=args.recursive, overwrite=args.overwrite)
    silence_decoders()
    # Everything a user can get wrong is found by now: TensorFlow, which takes seconds, is imported for work alone.
    enhancer = get_enhancer(method, options)
    summary = files.run_tasks(
        tasks,
        enhancer,
        tile=_parse_tile(args.tile),
        threads=args.threads,
        quality=args.quality,
        smoothing=args.smoothing,
    )
    print(summary.line())
    return summary.exit_code


def _enhance_records(args: argparse.Namespace, method: str, options: dict[str, Any]) -> int:
    """Enhances the pictures of one set of TFRecords; returns 0, or 1 where records had to be left out."""
    import hashlib

    from tfllv.runner import records

    if len(args.paths) != 1:
        raise ValueError(f"`PATH` must be one set of TFRecords, or pictures. Received: {len(args.paths)} paths.")
    silence_decoders()
    enhancer = get_enhancer(method, options)
    settings = {key: value for key, value in sorted(options.items()) if key != "weights"}
    if options.get("weights"):
        settings["weights"] = hashlib.sha256(pathlib.Path(options["weights"]).read_bytes()).hexdigest()
    tile = _parse_tile(args.tile)
    builder = records.EnhancedBuilder(
        method, repr(settings), args.record_format, lambda picture: enhancer.tiled(picture, tile)
    )
    count, report = records.enhance_set(
        args.paths[0], args.output, builder, overwrite=args.overwrite, say=lambda line: print(line, file=sys.stderr)
    )
    report.show(sys.stderr)
    print(f"{count} records in '{args.output}', {len(report)} left out")
    return 1 if len(report) else 0


def choose_method(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Returns the method and its options, from the config file and, above it, the command line."""
    from tfllv import contracts, enhancers

    options = _read_config(args.config) if args.config else {}
    options.update(_parse_options(args.options))
    for key in ("method", "weights", "precision", "runtime", *_DIFFUSION):
        if getattr(args, key, None) is not None:
            options[key] = getattr(args, key)
    method = options.pop("method", _DEFAULT_METHOD)
    if method not in enhancers.METHODS:
        hint = contracts.nearest_name(str(method), enhancers.METHODS)
        raise ValueError(f"`--method` must be a name of `tfllv list`. Received: '{method}'; {hint}")
    if enhancers.METHODS[method].kind == "classical":
        for key in ("weights", "precision"):
            if key in options:
                raise ValueError(
                    f"`--{key}` is for networks; '{method}' is a classical method. Received: {options[key]}."
                )
    elif options.get("precision", PRECISIONS[0]) not in PRECISIONS:
        raise ValueError(f"`precision` must be one of {', '.join(PRECISIONS)}. Received: {options['precision']}.")
    enhancers.check_runtime(method, options.get("runtime", _RUNTIMES[0]))
    for key in _DIFFUSION:
        if getattr(args, key, None) is not None and method != "diffusion":
            raise ValueError(f"`--{key}` is for --method diffusion. Received: {options[key]} with '{method}'.")
    if options.get("weights") is not None and not pathlib.Path(options["weights"]).is_file():
        raise FileNotFoundError(f"`--weights` must be a file. Received: '{options['weights']}', which does not exist.")
    return method, options


def _read_config(path: str) -> dict[str, Any]:
    """Reads method and options from a flat mapping, or the network from an experiment file."""
    import yaml

    try:
        content = yaml.safe_load(pathlib.Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ValueError(f"{path}: a mapping such as `method: sgz` is expected. Received: {type(content).__name__}.")
    if "experiment" not in content:
        return content
    from tfllv import config as configs

    experiment: Any = configs.load(path)
    if content["experiment"] == "diffusion":
        from tfllv.train import paired

        return {"method": "diffusion", "model": experiment.model} | paired.parse_options(experiment.options)
    chosen = {"method": experiment.model}
    # The options with which `tfllv train` builds it.
    keys = {"sgz": ("scale_factor", "conv_type"), "zero_dce_pp": ("scale_factor",)}.get(experiment.model, ())
    chosen |= {key: getattr(experiment, key) for key in keys if key in content}
    return chosen


def _parse_options(words: list[str]) -> dict[str, Any]:
    import yaml

    options = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.isidentifier():
            raise ValueError(f"`--set` must be OPTION=VALUE. Received: '{word}'.")
        try:
            options[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ValueError(
                f"`--set` must give '{key}' a number, a word or a YAML value. Received: '{text}'."
            ) from None
    return options


def _parse_tile(text: str) -> int | None:
    if text in ("auto", "off"):
        return None if text == "auto" else 0
    if not text.isdecimal() or int(text) < _SMALLEST_TILE:
        raise ValueError(f"`--tile` must be auto, off or a number >= {_SMALLEST_TILE}. Received: '{text}'.")
    return int(text)


def _check_numbers(args: argparse.Namespace) -> None:
    _parse_tile(args.tile)
    if args.threads is not None and args.threads < 1:
        raise ValueError(f"`--threads` must be >= 1. Received: {args.threads}.")
    if not 1 <= args.quality <= 100:
        raise ValueError(f"`--quality` must be from 1 to 100. Received: {args.quality}.")
    if not 0 <= args.smoothing < 1:
        raise ValueError(f"`--smoothing` must be in [0, 1). Received: {args.smoothing}.")


def get_enhancer(method: str, options: dict[str, Any]) -> Any:
    """Returns the enhancer, having tried the options of a classical method; imports TensorFlow for a network."""
    import numpy as np

    from tfllv import enhancers

    try:
        enhancer = enhancers.get(method, **options)
        if enhancer.method.kind == "classical":  # its options are read when it is called: wrong ones must show here
            enhancer(np.full((16, 16, 3), 128, np.uint8))
    except TypeError as error:
        raise ValueError(f"`--set` must name options of '{method}'. Received: {', '.join(options)}: {error}.") from None
    return enhancer


def silence_decoders() -> None:
    """A bad file is named in one line of ours; what the decoders print about it beside that helps nobody."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    warnings.filterwarnings("ignore", module="PIL")
