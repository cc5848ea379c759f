"""Tests of the page that `--help` prints."""

import importlib
import shlex
import subprocess
import sys

import pytest
from absl import flags as absl_flags

from moa_jax.command import flags, usage
from moa_jax.engine import configurations


def test_modes_flags_and_configurations_with_examples():
    lines = usage.text().splitlines()
    names = [line.split()[0] for line in lines if line[:2] == "  " and line[2] != " "]
    own = [f"--{f.name}" for f in absl_flags.FLAGS.get_flags_for_module(flags.__name__)]
    assert own == ["--config", "--fields", "--workdir", "--mode", "--distributed", "--repair"]
    flagged = {name.partition("=")[0] for name in names}
    assert {*flags.MODES, *own, "--config.FIELD", *configurations.packaged()} <= flagged
    examples = [line.strip() for line in lines if line.strip().startswith(("moa-jax -", "srun"))]
    assert len(examples) >= len(flags.MODES) + len(own)
    assert max(map(len, lines)) <= usage.WIDTH


def test_examples_name_what_exists():
    known = absl_flags.FLAGS
    for line in usage.text().splitlines():
        if not line.strip().startswith(("moa-jax --", "srun")) or "NAME" in line:
            continue
        for word in shlex.split(line.partition("moa-jax")[2]):
            name, _, value = word.removeprefix("--").partition("=")
            assert name.startswith("config.") or name in known, word
            if name == "mode":
                assert value in flags.MODES
            if name == "config":
                stem, _, variant = value.partition(":")
                module = importlib.import_module(f"moa_jax.configs.{stem}")
                module.get_config(*[variant][: bool(variant)])


def test_a_configuration_is_summed_up_without_running_it(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text('"""Mine.\n\nMore."""\nraise RuntimeError\n')
    assert usage.summary(file) == "Mine."
    file.write_text("x = 1\n")
    assert usage.summary(file) == ""


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_precision_is_what_a_mode_computes_in(precision, tmp_path):
    """In a process of its own, where JAX is told once."""
    program = """
import sys
import jax.numpy as jnp
from moa_jax.command import entry
from moa_jax.plan import report
from moa_jax.engine import loading
loading.load_data = lambda config: None
report.text = lambda *_: str(jnp.ones(1).dtype)
entry.cli()
"""
    arguments = ("--config=simple_nn:smoke", "--mode=plan", f"--workdir={tmp_path}")
    found = subprocess.run(
        [sys.executable, "-c", program, *arguments, f"--config.precision={precision}"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert found.stdout.strip() == precision
