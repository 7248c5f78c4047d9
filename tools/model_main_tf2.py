"""Trains a TFOD detector, or evaluates its checkpoints, with the flags of the TF Object Detection API.

    python tools/model_main_tf2.py --pipeline_config_path pipelines/NAME.config --model_dir runs/NAME
    python tools/model_main_tf2.py --pipeline_config_path pipelines/NAME.config --model_dir runs/NAME \
        --checkpoint_dir runs/NAME

Configuration, label map, records and starting checkpoint are checked before TensorFlow is imported: what would fail
after minutes, or quietly train nothing, is one line each. The same command goes on from the newest checkpoint.
Exit code: 0 done, 1 a loss was not a number, 2 wrong use or input.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from tfllv.detection import checks, pipeline, preprocessing
from tfllv.records import tool


def build_parser() -> argparse.ArgumentParser:
    """Returns the tool's parser."""
    parser = argparse.ArgumentParser(prog="model_main_tf2.py", description=__doc__.split("\n")[0])
    parser.add_argument("--pipeline_config_path", required=True, metavar="FILE", help="a pipeline.config")
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="for checkpoints, curves and results")
    parser.add_argument("--num_train_steps", type=int, metavar="N", help="default: num_steps of the configuration")
    parser.add_argument("--checkpoint_dir", metavar="DIR", help="evaluate the checkpoints that appear there")
    parser.add_argument("--override", nargs="+", action="extend", default=[], metavar="FIELD=VALUE", help="by dots")
    parser.add_argument("--skip_checks", action="store_true", help="begin whatever the checks say")
    _add_training(parser.add_argument_group("training"))
    _add_evaluation(parser.add_argument_group("evaluation"))
    # Words of TFOD's documentation that change nothing here.
    parser.add_argument("--alsologtostderr", action="store_true", help=argparse.SUPPRESS)
    return parser


def _add_training(group: Any) -> None:
    switch = {"nargs": "?", "const": True, "type": tool.read_switch}
    group.add_argument("--checkpoint_every_n", type=int, default=1000, metavar="N", help="steps (default: %(default)s)")
    group.add_argument("--record_summaries", default=True, **switch, help="pictures of the first batch, as well")
    group.add_argument("--num_workers", type=int, default=1, metavar="N", help="machines, as TF_CONFIG says")
    group.add_argument("--use_tpu", default=False, **switch, help="train on a TPU")
    group.add_argument("--tpu_name", metavar="NAME", help="of the TPU; default: a local one")
    group.add_argument("--tracker", default="tensorboard", metavar="NAME", help="tensorboard, wandb or none")
    group.add_argument(
        "--refresh_batch_norm",
        type=int,
        default=50,
        metavar="N",
        help="batches that batch-norm statistics are taken from before each checkpoint (default: %(default)s; 0: none)",
    )
    group.add_argument("--bfloat16", default=False, **switch, help="compute in bfloat16, weights in float32")
    group.add_argument("--enhance", default="", metavar="NAME", help="of `tfllv list`: applied to every picture")
    group.add_argument("--darken", default="", metavar="RECIPE", help="of `tfllv darken`: applied to every picture")
    group.add_argument("--darken_seed", type=int, default=0, metavar="N", help="default: %(default)s")


def _add_evaluation(group: Any) -> None:
    switch = {"nargs": "?", "const": True, "type": tool.read_switch}
    group.add_argument("--eval_timeout", type=int, default=3600, metavar="S", help="seconds without a new checkpoint")
    group.add_argument("--sample_1_of_n_eval_examples", type=int, metavar="N", help="evaluate every Nth")
    group.add_argument("--eval_on_train_data", default=False, **switch, help="evaluate the training records")
    group.add_argument("--sample_1_of_n_eval_on_train_examples", type=int, default=5, metavar="N", help="of those")


def run(args: argparse.Namespace) -> int:
    """Checks, then trains or evaluates; returns the exit code."""
    _check_numbers(args)
    config = pipeline.load(args.pipeline_config_path, args.override)
    before = preprocessing.Preprocessing(args.enhance, args.darken, args.darken_seed)
    reads = "train" if args.eval_on_train_data or not args.checkpoint_dir else "eval"
    plan = checks.Run(args.num_train_steps, args.num_workers, trains=not args.checkpoint_dir, reads=reads)
    problems = [] if args.skip_checks else checks.check(config, args.pipeline_config_path, plan)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(f"{len(problems)} problems; nothing was started (--skip_checks begins all the same)", file=sys.stderr)
        return 2
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return _evaluate(args, config, before) if args.checkpoint_dir else _train(args, config, before)


def _check_numbers(args: argparse.Namespace) -> None:
    names = ("num_train_steps", "checkpoint_every_n", "num_workers", "sample_1_of_n_eval_examples")
    for name in (*names, "sample_1_of_n_eval_on_train_examples"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be 1 or more. Received: {value}.")
    if args.refresh_batch_norm < 0:
        raise ValueError(f"--refresh_batch_norm must be 0 or more. Received: {args.refresh_batch_norm}.")


def _train(args: argparse.Namespace, config: Any, before: preprocessing.Preprocessing) -> int:
    from tfllv.detection import launch, training

    options = training.Options(
        num_train_steps=args.num_train_steps,
        checkpoint_every_n=args.checkpoint_every_n,
        record_summaries=args.record_summaries,
        refresh_batch_norm=args.refresh_batch_norm,
        bfloat16=args.bfloat16,
        preprocessing=before,
    )
    hardware = "tpu" if args.use_tpu else "multi_worker" if args.num_workers > 1 else "local"
    try:
        launch.train(
            config, args.model_dir, options=options, hardware=hardware, tpu=args.tpu_name or "", tracker=args.tracker
        )
    except training.NotFiniteError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _evaluate(args: argparse.Namespace, config: Any, before: preprocessing.Preprocessing) -> int:
    from tfllv.detection import checkpoint_evaluation

    checkpoint_evaluation.evaluate_checkpoints(
        config,
        args.checkpoint_dir,
        args.model_dir,
        eval_timeout=args.eval_timeout,
        num_train_steps=args.num_train_steps,
        sample_1_of_n_eval_examples=args.sample_1_of_n_eval_examples,
        eval_on_train_data=args.eval_on_train_data,
        sample_1_of_n_eval_on_train_examples=args.sample_1_of_n_eval_on_train_examples,
        prepare=before.picture_function(),
    )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool."""
    words = list(sys.argv[1:] if argv is None else argv)
    return tool.main(build_parser(), run, [word for word in words if word != "--"])


if __name__ == "__main__":
    sys.exit(main())
