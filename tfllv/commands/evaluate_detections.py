"""`tfllv evaluate detections`: scores what a detector found, explains it, and tests what enhancing does to it.

`tools/evaluate_detections.py` is the same under TFOD's customs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

_TRUTHS = ("records", "exdark_dir", "coco")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    found = parser.add_argument_group("what was found (one of)")
    found.add_argument("--detections", metavar="FILE", help="a detections.json that run_inference.py wrote")
    found.add_argument("--model_dir", metavar="DIR", help="or an exported model, which is run over the pictures")
    truth = parser.add_argument_group("what is there (one of)")
    truth.add_argument("--records", metavar="PATH", nargs="+", help="TFRecords: shards, patterns or a set's folder")
    truth.add_argument("--exdark_dir", metavar="DIR", help="or a folder that holds ExDark/ and ExDark_Annno/")
    truth.add_argument("--coco", metavar="FILE", help="or COCO's instances_*.json")
    truth.add_argument("--image_dir", metavar="DIR", help="the pictures of --coco")
    truth.add_argument("--split", default="test", help="of --exdark_dir: train, val, test or all (default: test)")
    truth.add_argument(
        "--class_list", metavar="FILE", help="imageclasslist.txt: light and place, for ExDark's pictures"
    )
    truth.add_argument("--label_map_path", metavar="FILE", help="classes to score (default: those of the ground truth)")
    truth.add_argument("--masks", action="store_true", help="score masks as well as boxes")
    truth.add_argument("--allow_missing", action="store_true", help="score only pictures that are in --detections")
    tests = parser.add_argument_group("what to compare; with --model_dir")
    tests.add_argument("--normal_light_dir", metavar="DIR", help="the pictures in normal light, by the same names")
    tests.add_argument("--low_light_dir", metavar="DIR", help="and in low light: AP on both, and the drop")
    tests.add_argument("--compare_enhancers", metavar="A,B", help="methods of `tfllv list`: does enhancing help?")
    tests.add_argument(
        "--compare_detections",
        metavar="NAME=FILE",
        nargs="+",
        help="or detections saved before; without --model_dir too",
    )
    parser.add_argument("--output_dir", metavar="DIR", help="write evaluation.json and index.html there")
    parser.add_argument("--resamples", type=int, metavar="N", help="of the bootstrap (default: 1000; of tests 2000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the bootstrap (default: 0)")
    parser.add_argument("--min_score", type=float, default=0.3, metavar="X", help="of examples (default: 0.3)")
    parser.add_argument("--num_examples", type=int, default=24, metavar="N", help="of misses on the page (default: 24)")


def run(args: argparse.Namespace) -> int:
    """Prints the result; returns 0, or 1 where the ground truth had problems."""
    _check(args)
    from tfllv.detection import evaluation, lighting, paired
    from tfllv.records.problems import Report

    problems = Report()
    truth = _read_truth(args, problems)
    names = [name.strip() for name in (args.compare_enhancers or "").split(",") if name.strip()]
    detector = _Detector(args.model_dir) if args.model_dir else None
    options = {"seed": args.seed, "resamples": args.resamples or paired.RESAMPLES}
    more: dict[str, Any] = {}
    if args.low_light_dir:
        assert detector is not None
        normal, truth, notes = paired.pair_folders(truth, args.normal_light_dir, args.low_light_dir)
        for note in notes:
            print(note, file=sys.stderr)
        found = detector(truth)
        more["comparison"] = paired.compare_lights(truth, detector(normal), found, **options)
    else:
        found = detector(truth) if detector else _read(args.detections)
    others: dict[str, Any] = {name: detector(truth, name) for name in names} if detector else {}
    others |= {name: _read(path) for name, path in _named_files(args.compare_detections).items()}
    if others:
        more["enhancers"], more["answers"] = paired.compare_methods(truth, found, others, **options)
    result = evaluation.evaluate(
        truth,
        found,
        allow_missing=args.allow_missing,
        resamples=args.resamples or lighting.RESAMPLES,
        seed=args.seed,
        min_score=args.min_score,
        count=args.num_examples,
        about=more,
    )
    print(evaluation.text(result.report))
    if args.output_dir:
        print(f"\nwritten: {evaluation.write(result, args.output_dir, detections=found if detector else None)}")
    problems.show(sys.stderr)
    return 1 if len(problems) else 0


class _Detector:
    """An exported model over a ground truth's pictures, as they are or enhanced."""

    def __init__(self, model_dir: str):
        from tfllv.detection import detector

        self.model_dir, self._detector = model_dir, detector.Detector(model_dir)

    def __call__(self, truth: Any, enhancer: str | None = None) -> Any:
        from tfllv import enhancers
        from tfllv.detection import evaluation

        enhance: Callable[..., Any] | None = enhancers.get(enhancer).tiled if enhancer else None
        return evaluation.detect(truth, self._detector, enhance=enhance, model=self.model_dir)


def _read(path: str) -> Any:
    from tfllv.detection import results

    return results.read(path)


def _check(args: argparse.Namespace) -> None:
    """Checks what goes with what, and that files are there, before anything is loaded."""
    from tfllv import contracts, enhancers

    if bool(args.detections) == bool(args.model_dir):
        given = "both" if args.detections else "neither"
        raise ValueError(f"either `--detections` or `--model_dir` must be given. Received: {given}.")
    given_truths = [f"--{name}" for name in _TRUTHS if getattr(args, name)]
    if len(given_truths) != 1:
        given = ", ".join(given_truths) or "none"
        raise ValueError(f"one of --records, --exdark_dir and --coco must be given. Received: {given}.")
    if bool(args.normal_light_dir) != bool(args.low_light_dir):
        raise ValueError("`--normal_light_dir` and `--low_light_dir` go together. Received: one of them.")
    if not args.model_dir and (args.low_light_dir or args.compare_enhancers):
        what = "--compare_enhancers" if args.compare_enhancers else "--low_light_dir"
        raise ValueError(f"`{what}` runs the model on other pictures: give --model_dir. Received: --detections.")
    if args.masks and args.exdark_dir:
        raise ValueError("`--masks` is for --records and --coco: ExDark has none. Received: --exdark_dir.")
    if args.coco and not args.image_dir and args.model_dir and not args.low_light_dir:
        raise ValueError("`--image_dir` must name the pictures of --coco for --model_dir. Received: none.")
    for name in (args.compare_enhancers or "").split(","):
        if name.strip() and name.strip() not in enhancers.METHODS:
            hint = contracts.nearest_name(name.strip(), enhancers.METHODS)
            raise ValueError(f"`--compare_enhancers` must name methods of `tfllv list`. Received: '{name}'; {hint}")
    for path in (
        args.detections,
        args.label_map_path,
        args.class_list,
        *_named_files(args.compare_detections).values(),
    ):
        if path and not os.path.isfile(path):
            raise FileNotFoundError(f"{path}: there is no such file.")
    if args.output_dir and pathlib.Path(args.output_dir).is_file():
        raise NotADirectoryError(f"`--output_dir` must be a folder. Received: '{args.output_dir}', which is a file.")
    if importlib.util.find_spec("pycocotools") is None:
        raise ImportError("scoring detections needs pycocotools: pip install 'tfllv[detection]'.")


def _named_files(pairs: list[str] | None) -> Mapping[str, str]:
    found = {}
    for pair in pairs or []:
        name, equals, path = pair.partition("=")
        if not (name and equals and path):
            raise ValueError(f"`--compare_detections` must be NAME=FILE. Received: '{pair}'.")
        found[name] = path
    return found


def _read_truth(args: argparse.Namespace, problems: Any) -> Any:
    from tfllv.detection import pipeline
    from tfllv.detection import truth as truths

    labels = pipeline.label_map(args.label_map_path) if args.label_map_path else None
    if args.records:
        found = truths.from_records(args.records, labels=labels, masks_too=args.masks)
    elif args.coco:
        found = truths.from_coco(args.coco, problems, image_dir=args.image_dir, labels=labels, masks_too=args.masks)
    else:
        return truths.from_exdark(args.exdark_dir, problems, class_list=args.class_list, split=args.split)
    return truths.with_lighting(found, args.class_list, problems) if args.class_list else found
