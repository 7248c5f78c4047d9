"""Attacks `tfllv serve` and says whether its promises held: `python tools/attack_server.py [NAME ...]`.

    bombs   files that claim or unpack to far more than they are: refused fast, without memory
    fuzz    random damage to files, forms and addresses: only 2xx and 4xx (503 under load), memory as before
    load    many clients at once: those who are served wait about alike, the others are told at once, none hangs
    stop    SIGTERM under load: nothing that was accepted is lost
    speed   throughput and latency beside the bare model, in turn with it

Each starts a server of its own (`--model DIR` serves an export, else the bundled `sgz`), prints a table, writes it to
runs/attack/NAME.json, and the exit code is 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT)]

ATTACKS = ("bombs", "fuzz", "load", "stop", "speed")


def main() -> int:
    """Runs the attacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ATTACKS)} (default: all)")
    parser.add_argument("--model", metavar="DIR", help="an export to serve, as `tfllv export sgz -o DIR` writes it")
    parser.add_argument("--uploads", type=int, default=10_000, help="of fuzz (default: 10000)")
    parser.add_argument("--clients", type=int, default=1000, help="of load (default: 1000)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of load (default: 20)")
    parser.add_argument("--rounds", type=int, default=15, help="of speed (default: 15)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    unknown = set(args.names) - set(ATTACKS)
    if unknown:
        parser.error(f"NAME must be one of {', '.join(ATTACKS)}. Received: {', '.join(sorted(unknown))}.")
    broken = False
    for name in args.names or ATTACKS:
        rows, promises = importlib.import_module(f"attacks.{name}").run(args)
        target = ROOT / "runs" / "attack" / f"{name}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps({"rows": rows, "promises": promises}, indent=1) + "\n")
        _print(name, rows, promises)
        broken |= not all(promises.values())
    return int(broken)


def _print(name: str, rows: list[dict], promises: dict[str, bool]) -> None:
    print(f"\n{name}")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[f"{row.get(key, '')}" for key in columns] for row in rows]
    widths = [max(len(line[i]) for line in [columns, *cells]) for i in range(len(columns))]
    for line in [columns, *cells]:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for promise, kept in promises.items():
        print(f"  {'held  ' if kept else 'BROKEN'} {promise}")


if __name__ == "__main__":
    sys.exit(main())
