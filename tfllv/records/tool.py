"""What the converters' command lines share: options, progress, the report of problems, exit codes."""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tfllv.records import csv, files, label_map
from tfllv.records.convert import RUNNERS, Outcome, RunOptions, SetPlan, convert
from tfllv.records.problems import Report
from tfllv.records.shards import Built


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that every converter has."""
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="folder of the shards and their manifests")
    parser.add_argument("--num_shards", type=int, default=0, metavar="N", help="of each set (default: ten)")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes (default: one a processor)")
    parser.add_argument("--runner", choices=RUNNERS, default="local", help="this machine, or Apache Beam")
    parser.add_argument(
        "--beam_options", nargs=argparse.REMAINDER, default=[], help="all that follows goes to Beam; must come last"
    )
    parser.add_argument("--strict", action="store_true", help="write nothing and exit 1 where anything is wrong")
    parser.add_argument("--overwrite", action="store_true", help="replace sets that are there already")


def add_box_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the converters of boxes."""
    parser.add_argument(
        "--out_of_bounds",
        choices=("clip", "drop"),
        default="clip",
        help="a box that leaves its picture is clipped to it (default), or its object is dropped, as TFOD does",
    )


def read_switch(text: str) -> bool:
    """Reads the value of a switch that is given one, as in `--include_masks=true`: a `type` of argparse."""
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"expected true or false, found '{text}'")
    return text.lower() in ("true", "1")


def run_options(args: argparse.Namespace) -> RunOptions:
    """Returns the options of `add_run_arguments`."""
    return RunOptions(
        num_shards=args.num_shards,
        workers=args.workers,
        runner=args.runner,
        beam_options=tuple(args.beam_options),
        strict=args.strict,
        overwrite=args.overwrite,
    )


def read_labels(path: str | None) -> dict[str, int] | None:
    """Reads a label map, or returns None for none."""
    return label_map.read(path) if path else None


def write(
    args: argparse.Namespace,
    plans: Sequence[SetPlan],
    build: Callable[[Any], Built],
    report: Report,
    source: dict[str, Any],
    *,
    labels: dict[str, int] | None = None,
    table: str = "",
) -> int:
    """Converts, says what was done and what was wrong.

    Args:
      args: of the tool.
      plans: the sets.
      build: item -> record.
      report: problems found so far.
      source: for the manifest.
      labels: written as label_map.pbtxt beside the sets, for a configuration to point at.
      table: name of a csv of all boxes to write beside them, or ''.

    Returns:
      The exit code: 0 done, 1 held back by `--strict`.
    """

    def beside(rows: dict[str, list[list[Any]]]) -> dict[str, bytes]:
        made = {"label_map.pbtxt": label_map.write(labels).encode()} if labels else {}
        return made | ({table: csv.write_csv([row for each in rows.values() for row in each])} if table else {})

    options = run_options(args)
    outcome = convert(plans, args.output_dir, build, source=source, report=report, options=options, beside=beside)
    return _finish(args, outcome)


def _finish(args: argparse.Namespace, outcome: Outcome) -> int:
    report = outcome.report
    if len(report) and not outcome.complete:
        listing = files.join(args.output_dir, "problems.txt")
        files.write(listing, ["".join(f"{problem}\n" for problem in report).encode("utf-8", "backslashreplace")])
        report.show(sys.stderr)
        print(f"{len(report)} problems in all, listed in {listing}", file=sys.stderr)
    if not outcome.manifests:
        print("nothing was written, because of --strict; without it the same run is taken up", file=sys.stderr)
        return 1
    for name, manifest in outcome.manifests.items():
        where = files.join(args.output_dir, f"{name}-?????-of-{len(manifest['shards']):05d}")
        print(f"{manifest['count']:7,} records, {manifest['bytes'] / 1e6:,.1f} MB: {where}")
    return 0


def main(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int], argv: Sequence[str] | None) -> int:
    """Parses and runs; wrong input is one line on standard error and exit 2.

    Args:
      parser: of the tool.
      run: arguments -> exit code.
      argv: words; None: those of the process.

    Returns:
      The exit code: 0 done, 1 held back by `--strict`, 2 wrong use or input.
    """
    args = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        return run(args)
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("TFLLV_DEBUG"):
            raise
        print(f"{pathlib.PurePath(parser.prog).name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: stopped; run it again to take the work up.", file=sys.stderr)
        return 130
