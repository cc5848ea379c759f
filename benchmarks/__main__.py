"""Times beside the peers' and beside the machine's limits, in one table, and how cost grows.

    python -m benchmarks --quick
    python -m benchmarks --only=simple_nn,transforms.rank_gauss_fit
    python -m benchmarks --growth --only=rows

Every row's sides run in turns; every group of rows has a process of its own. A peer that is not
installed is told in its row. `--out` gets all times as JSON. The status is 1 if a row failed.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from benchmarks import growth, machine, registry, running, table
from moa_jax.errors import UserError
from moa_jax.store import files

QUICK_MINUTES = 5.0


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status."""
    options = _parser().parse_args(arguments)
    only = [name for name in options.only.split(",") if name]
    size = "quick" if options.quick else "full"
    try:
        if options.minutes is not None and not options.minutes > 0:
            raise UserError(f"--minutes: expected more than 0, found {options.minutes:g}")
        if options.growth:
            out, minutes = options.out or Path("runs/growth.json"), options.minutes
            return growth.main(only, size, out, None if minutes is None else 60 * minutes)
        return _table(only, size, options.minutes, options.out or Path("runs/benchmarks.json"))
    except UserError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, few rows, 5 minutes")
    parser.add_argument("--only", default="", help="rows or groups, separated by commas")
    parser.add_argument(
        "--minutes",
        type=float,
        help="what has not ended by then is left out (5 of the quick table)",
    )
    parser.add_argument("--growth", action="store_true", help="how time and memory grow instead")
    parser.add_argument("--out", type=Path, help="the JSON file (runs/benchmarks.json)")
    return parser


def _table(only: list[str], size: str, minutes: float | None, out: Path) -> int:
    rows = registry.chosen(only, size)
    before, versions = machine.described(), machine.versions()
    if minutes is None and size == "quick" and not only:
        minutes = QUICK_MINUTES
    found, rates = running.run(rows, size, None if minutes is None else 60 * minutes)
    record = table.record(found, rates, before, versions, size)
    files.write_json(out, record)
    print(*table.lines(record), sep="\n")
    print(f"{out}: all times", file=sys.stderr)
    return 0 if table.is_whole(record) else 1


if __name__ == "__main__":
    # So that processes which rows have started end with this one.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(main())
