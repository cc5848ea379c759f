"""One process: rows as they are asked for, a name a line, each answered by a line of JSON.

Seconds behind a name say after how long the row takes no other turn.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings

from benchmarks import machine, registry
from benchmarks.timing import measured, processor


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", required=True)
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    # Both ends belong to what has asked: what libraries print, and processes that rows start, have
    # neither.
    asked, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    known = registry.rows()
    for line in iter(asked.readline, ""):
        wall, work = time.perf_counter(), processor()
        name, *seconds = line.split()
        found = measured(known[name], options.size, seconds=float(*seconds) if seconds else None)
        took = {"wall": time.perf_counter() - wall, "processor": processor() - work}
        print(json.dumps({**found, "took": took}), file=answers, flush=True)
    print(json.dumps({"rates": machine.rates()}), file=answers, flush=True)


if __name__ == "__main__":
    sys.exit(main())
