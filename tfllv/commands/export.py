"""`tfllv export NAME -o DIR`: a network as a file that runs without this package, compared before it is published."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import pathlib
from typing import Any

from tfllv.commands import import_weights

FORMATS = ("saved_model", "litert", "onnx")
WEIGHTS = ".weights.h5"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "name", metavar="NAME", help="network, see `tfllv list`; or `encoder`; a name of your own with --saved_model"
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=pathlib.Path, required=True, help="the model's folder; made where absent"
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--weights", metavar="FILE", help="a .weights.h5 file (default: those shipped)")
    start.add_argument("--workdir", metavar="DIR", type=pathlib.Path, help="a run of `tfllv train`: its final weights")
    start.add_argument("--saved_model", metavar="DIR", help="a detector that tools/exporter_main_v2.py wrote")
    parser.add_argument("--format", default="saved_model", choices=FORMATS, help="default: saved_model")
    parser.add_argument(
        "--precision",
        default="float32",
        choices=("float32", "bfloat16", "float16", "int8", "int8_dynamic"),
        help="saved_model: float32, bfloat16; litert: float32, float16, int8, int8_dynamic (default: float32)",
    )
    parser.add_argument(
        "--calibration", metavar="DIR", help="pictures for int8, like those to come (default: the bundled ones)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a .tflite or .onnx file that exists")
    parser.add_argument(
        "--max_pixels",
        metavar="N",
        type=int,
        help="the most pixels of an encoded picture (default: 50 million, 2.5 million for networks that see it whole)",
    )
    parser.add_argument(
        "--set", metavar="OPTION=VALUE", action="append", default=[], help="an option of the network; may be repeated"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command.

    Raises:
      ValueError: if an argument is wrong, or what was written does not give what the network gives.
      OSError: if a file cannot be read or written.
    """
    if args.name == "encoder":
        return _run_encoder(args)
    if args.saved_model:
        return _run_detector(args)
    options = import_weights.parse_options(args.set)
    weights = args.weights
    if args.workdir:
        trained, weights = read_workdir(args.workdir, args.name)
        options = {**trained, **options}
    path, agreement = _export(args, weights, options)
    print(f"{path}: {agreement}")
    return 0


def _run_encoder(args: argparse.Namespace) -> int:
    from tfllv.export import encoder

    if args.format != "saved_model" or args.precision != "float32":
        raise ValueError("`encoder` is written as SavedModel and Keras files in float32 alone. Received: another.")
    weights, options = args.weights, import_weights.parse_options(args.set)
    if args.workdir:
        trained, weights = read_workdir(args.workdir, encoder.NETWORK)
        options = {**trained, **options}
    path, agreement = encoder.export(encoder.load(weights, **options), args.output)
    print(f"{path}: {agreement}")
    return 0


def _run_detector(args: argparse.Namespace) -> int:
    from tfllv.export import detection

    if args.precision != "float32" or args.set:
        raise ValueError("`--saved_model` is exported in float32 as it is. Received: --precision or --set.")
    source = detection.load(args.saved_model)
    if args.format == "onnx":
        from tfllv.export import onnx

        path, agreement = onnx.export_detector(source, args.name, args.output, overwrite=args.overwrite)
    elif args.format == "litert":
        from tfllv.export import litert

        path, agreement = litert.export_detector(source, args.name, args.output, overwrite=args.overwrite)
    else:
        path, agreement = detection.export(source, args.name, args.output, max_pixels=args.max_pixels)
    print(f"{path}: {agreement}")
    return 0


def _export(args: argparse.Namespace, weights: Any, options: dict[str, Any]) -> tuple[pathlib.Path, str]:
    if args.format == "saved_model":
        from tfllv.export import product, saved_model

        what = product.load(args.name, weights=weights, precision=args.precision, **options)
        return saved_model.export(what, args.output, max_pixels=args.max_pixels)
    from tfllv.export import product

    what = product.load(args.name, weights=weights, **options)
    if args.format == "litert":
        from tfllv.export import litert

        return litert.export(
            what, args.output, precision=args.precision, calibration=args.calibration, overwrite=args.overwrite
        )
    from tfllv.export import onnx

    if args.precision != "float32":
        raise ValueError(f"`--precision` must be float32 for ONNX. Received: {args.precision}.")
    return onnx.export(what, args.output, overwrite=args.overwrite)


def read_workdir(workdir: pathlib.Path, name: str) -> tuple[dict[str, Any], pathlib.Path]:
    """Returns the network's options as a run was trained with, and its final weights.

    Raises:
      ValueError: if the run trained another network.
      OSError: if the folder holds no finished run.
    """
    from tfllv import config as configs
    from tfllv import models
    from tfllv.models import encoder_weights
    from tfllv.train import paired

    final, file = workdir / f"final{WEIGHTS}", workdir / "config.yaml"
    for path in (file, final):
        if not path.is_file():
            raise FileNotFoundError(f"`--workdir` must be a finished run of `tfllv train`. Received: {path} is absent.")
    config: Any = configs.load(file)
    if config.model != name:
        raise ValueError(f"`--workdir` must be a run of '{name}'. Received: {workdir}, a run of '{config.model}'.")
    network = type(models.build(name))
    # `weights` of a configuration are those of its loss.
    taken = inspect.signature(network).parameters.keys() - {"seed", "dtype", "name", "weights"}
    options = {field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.name in taken}
    if hasattr(config, "encoder"):
        options["variant"] = encoder_weights.variant_of(config.encoder)
    # Curve networks are trained at scale 1 and run at the published scale; their weights are the same for both.
    options.pop("scale_factor", None)
    return {**options, **paired.parse_options(getattr(config, "options", ()))}, final
