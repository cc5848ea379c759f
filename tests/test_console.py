"""The log of a run: what it says once."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from pathlib import Path
from absl import logging
from moa_jax.command import console
console.start_log(Path(sys.argv[1]))
for _ in range(2):
    logging.warning("%s: no column", "new.csv")
    logging.info("epoch")
logging.warning("other.csv: no column")
"""


def test_a_warning_about_a_file_comes_once(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "log.txt"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    for text in (run.stderr, (tmp_path / "log.txt").read_text()):
        lines = [line.partition(" ")[2] for line in text.splitlines()]
        assert [line for line in lines if "column" in line] == [
            "new.csv: no column",
            "other.csv: no column",
        ]
