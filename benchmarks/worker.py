"""One process: some rows one after another, each a line of JSON as soon as it is known."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
import warnings
from pathlib import Path

from benchmarks import machine, registry
from benchmarks.timing import measured


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", required=True, help="their names, separated by commas")
    parser.add_argument("--size", required=True)
    parser.add_argument("--out", type=Path, required=True, help="lines of JSON go there")
    parser.add_argument("--seconds", type=float, help="no row begins after so many")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    end = time.monotonic() + options.seconds if options.seconds else None
    known = registry.rows()
    with open(options.out, "a", encoding="utf-8") as out:
        for name in options.rows.split(","):
            if end is not None and time.monotonic() >= end:
                break
            # What libraries print is none of the table's.
            with contextlib.redirect_stdout(sys.stderr):
                found = measured(known[name], options.size)
            print(json.dumps(found), file=out, flush=True)
        print(json.dumps({"rates": machine.rates()}), file=out, flush=True)


if __name__ == "__main__":
    main()
