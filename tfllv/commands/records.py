"""`tfllv records verify|salvage PATH`: check TFRecords, and take the whole records out of damaged ones."""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the two actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    help_of_path = "a manifest, a shard, FOLDER/NAME, or a folder that holds one set"
    check = actions.add_parser("verify", help="compare a set with its manifest and every record with its checksums")
    check.add_argument("path", metavar="PATH", help=help_of_path)
    rescue = actions.add_parser("salvage", help="write the whole records of damaged shards to a new folder")
    rescue.add_argument("path", metavar="PATH", help=help_of_path)
    rescue.add_argument("-o", "--output", required=True, metavar="DIR", help="folder for the new set")


def run(args: argparse.Namespace) -> int:
    """Runs an action; returns 0, or 1 where something is damaged or missing."""
    from tfllv.records import salvage

    findings = salvage.verify(args.path) if args.action == "verify" else salvage.salvage(args.path, args.output)
    for line in (*findings.lines, *findings.damages):
        print(line, file=sys.stderr)
    if not findings.manifest:
        print("no manifest: a shard that was cut between two records is not noticed", file=sys.stderr)
    lost = sum(damage.lost for damage in findings.damages)
    print(f"{findings.records:,} whole records in {findings.shards} shards, {lost} damaged")
    return 0 if findings.good else 1
