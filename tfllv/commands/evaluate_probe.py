"""`tfllv evaluate probe DATA`: what encoders know of pictures' classes, by one protocol for all of them."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "data",
        metavar="DATA",
        help="ExDark's folder, a CSV file (image,label[,split,group,lighting]), or a folder of class folders",
    )
    parser.add_argument(
        "--encoder",
        metavar="NAME=WEIGHTS",
        action="append",
        default=[],
        help="a ResNet-50: none (random), imagenet, or a file (.pt, .pth, .weights.h5, .h5); or colours: their means "
        "and deviations alone; repeat it, the first is what the others are compared with (default: random=none)",
    )
    parser.add_argument("--protocol", default="official", choices=("official", "five_fold"), help="default: official")
    parser.add_argument(
        "--mode", default="linear", choices=("linear", "fine_tune"), help="frozen features, or training all (linear)"
    )
    parser.add_argument("--size", type=int, default=224, metavar="PIXELS", help="side of the pictures (default: 224)")
    parser.add_argument("--epochs", type=int, default=10, metavar="N", help="of fine-tuning (default: 10)")
    parser.add_argument("--lr", type=float, default=1e-4, metavar="X", help="of fine-tuning (default: 1e-4)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of random weights, folds and resamples")
    parser.add_argument(
        "--cache", default="runs/probe_cache", metavar="DIR", help="keeps features (default: runs/probe_cache)"
    )
    parser.add_argument("-o", "--output", metavar="FILE.json", help="the figures as JSON; replaced if there")


def run(args: argparse.Namespace) -> int:
    """Prints the table of encoders; returns 0."""
    from tfllv.commands.evaluate_restoration import check_output
    from tfllv.evaluate import labelled, probe

    check_output(args.output)
    encoders = parse_encoders(args.encoder or ["random=none"], args.mode)
    for name, low in (("size", 32), ("epochs", 1)):
        if getattr(args, name) < low:
            raise ValueError(f"`--{name}` must be at least {low}. Received: {getattr(args, name)}.")
    data = labelled.read(args.data)
    divided = probe.parts(data, args.protocol, seed=args.seed)
    scores, notes = {}, {}
    for name, weights in encoders.items():
        scores[name], notes[name] = _MODES[args.mode](name, weights, data, divided, args)
    report = {
        "data": os.fspath(args.data),
        "images": len(data),
        "protocol": args.protocol,
        "mode": args.mode,
        "size": args.size,
        "seed": args.seed,
        "weights": encoders,
        "settings": notes,
        **probe.report(scores, data, seed=args.seed),
    }
    if args.output:
        from tfllv.inputs import image_files

        image_files.write_bytes(args.output, json.dumps(report, indent=1).encode())
    print(format_report(report))
    return 0


def parse_encoders(words: list[str], mode: str = "linear") -> dict[str, str]:
    """Returns `["random=none"]` as {"random": "none"}.

    Raises:
      ValueError: if a word is not `name=weights`, or a name stands there twice; or for `colours`, to be fine-tuned.
    """
    encoders: dict[str, str] = {}
    for word in words:
        name, equals, weights = (part.strip() for part in word.partition("="))
        if not (name and equals and weights):
            raise ValueError(f"`--encoder` must be NAME=WEIGHTS. Received: '{word}'.")
        if name in encoders:
            raise ValueError(f"`--encoder` must have a name of its own each. Received: '{name}' twice.")
        if weights == "colours" and mode == "fine_tune":
            raise ValueError("`--encoder` must be a network with --mode fine_tune. Received: colours.")
        encoders[name] = weights
    return encoders


def _linear(name: str, weights: str, data: Any, divided: Any, args: argparse.Namespace) -> tuple[Any, Any]:
    import tqdm

    from tfllv.evaluate import encoder_features, probe

    encoder = encoder_features.build_encoder(weights, seed=args.seed)
    with tqdm.tqdm(total=len(data), desc=name, unit="image", disable=None) as bar:
        features = encoder_features.extract(
            encoder, data.paths, size=args.size, cache=args.cache or None, progress=bar.update
        )
    scores, penalties = probe.predict(features, data, divided)
    return scores, {"penalties": penalties}


def _fine_tune(name: str, weights: str, data: Any, divided: Any, args: argparse.Namespace) -> tuple[Any, Any]:
    import numpy as np

    from tfllv.evaluate import encoder_features
    from tfllv.train import fine_tune

    scores = np.full((len(data), len(data.classes)), np.nan, np.float32)
    for part in divided:
        encoder = encoder_features.build_encoder(weights, seed=args.seed)
        print(f"{name}: fine-tuning on {len(part.train)} pictures", flush=True)
        network = fine_tune.train_classifier(
            encoder,
            [data.paths[index] for index in part.train],
            data.labels[part.train].tolist(),
            len(data.classes),
            size=args.size,
            epochs=args.epochs,
            lr=args.lr,
            seed=args.seed,
        )
        for start in range(0, len(part.score), encoder_features.BATCH):
            rows = part.score[start : start + encoder_features.BATCH]
            pictures = encoder_features.read_pictures([data.paths[index] for index in rows], args.size)
            scores[rows] = fine_tune.predict(network, pictures)
    return scores, {"epochs": args.epochs, "lr": args.lr}


_MODES = {"linear": _linear, "fine_tune": _fine_tune}


def format_report(report: dict[str, Any]) -> str:
    """Returns the report as lines of text: a table of encoders, of lighting types, and the paired comparisons."""
    encoders = report["encoders"]
    lines = [
        f"{report['mode'].replace('_', '-')}{' probe' if report['mode'] == 'linear' else ''}, {report['protocol']} "
        f"protocol, {report['images']} images at {report['size']} px; 95 % bootstrap intervals",
        "",
        f"{'encoder':<16}{'top-1':>22}{'top-5':>22}",
    ]
    lines += [f"{name:<16}{_cell(row['top1']):>22}{_cell(row['top5']):>22}" for name, row in encoders.items()]
    kinds = next(iter(encoders.values()))["lighting"]
    if kinds:
        lines += ["", f"{'top-1 by light':<16}" + "".join(f"{name:>22}" for name in encoders)]
        lines += [
            f"{kind:<16}" + "".join(f"{_cell(row['lighting'][kind]):>22}" for row in encoders.values())
            for kind in kinds
        ]
    for row in report["paired"]:
        low, high = (100 * end for end in row["interval"])
        lines += [
            "",
            f"{row['encoder']} against {row['against']}: {100 * row['difference']:+.2f} points of top-1 "
            f"[{low:+.2f}, {high:+.2f}], p = {row['p']:.4f} (paired sign-flip test)",
        ]
    return "\n".join(lines)


def _cell(share: dict[str, Any] | None) -> str:
    if share is None:
        return "-"
    if share["interval"] is None:
        return f"{100 * share['value']:.2f}"
    low, high = (100 * end for end in share["interval"])
    return f"{100 * share['value']:.2f} [{low:.2f}, {high:.2f}]"
