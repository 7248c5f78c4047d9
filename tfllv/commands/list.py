"""`tfllv list`: the enhancement methods and the networks, and whether each needs weights. Imports no TensorFlow."""

from __future__ import annotations

import argparse
import json
from typing import Any

from tfllv import enhancers, models

SHIPPED = "weights shipped"
NEEDED = "needs --weights"
METHOD_COLUMNS = ("name", "kind", "summary", "source", "weights")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON in place of the tables")


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    content = {"methods": methods(), "networks": networks()}
    if args.json:
        print(json.dumps(content, indent=2, ensure_ascii=False))
        return 0
    print("Methods (tfllv enhance --method NAME):")
    print(_table(content["methods"], METHOD_COLUMNS))
    print("\nNetworks (tfllv.models.build(NAME)):")
    print(_table(content["networks"], ("name", "summary", "source", "weights")))
    return 0


def methods() -> list[dict[str, Any]]:
    """The rows of `enhancers.METHODS`: name, kind, summary, source, weights (None for a classical method)."""
    rows = []
    for name, method in enhancers.METHODS.items():
        weights = (NEEDED if enhancers.needs_weights(name) else SHIPPED) if method.kind == "network" else None
        described = (name, method.kind, method.summary, method.source, weights)
        rows.append(dict(zip(METHOD_COLUMNS, described, strict=True)))
    return rows


def networks() -> list[dict[str, Any]]:
    """The rows of `models.MODELS`: name, summary, source, weights."""
    return [
        {"name": name, "summary": row.summary, "source": row.source, "weights": _weights(name)}
        for name, row in models.MODELS.items()
    ]


def _weights(name: str) -> str:
    return SHIPPED if name in models.MODELS and models.shipped_weights(name) else NEEDED


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> str:
    """Lays rows out in columns as wide as their widest cell."""
    cells = [[row[column] or "" for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)
    return "\n".join("  " + line.rstrip() for line in lines)
