"""Programs of tests that run in a process of their own and print what they found as JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def found_by(program, *arguments):
    """Returns the objects that a program of this checkout prints, a line each, in their order.

    Args:
      program: its text.
      arguments: what it reads from `sys.argv`.
    """
    # Compilers of other devices are told nothing of the CPU's, which they may not know.
    outer = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env=outer | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
