"""The page about a prepared table: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moa_jax.prepare.findings import ScreenFindings
from moa_jax.report import html
from moa_jax.store import files

# Rows of a table that are shown.
SHOWN = 200


def write(path: Path, name: str, found: ScreenFindings, described: Mapping[str, Any]) -> None:
    """Writes the page of the folder `name`."""
    template = html.environment("moa_jax.prepare").get_template("data.html.j2")
    roles = {
        role: ", ".join(value) if isinstance(value, (list, tuple)) else value
        for role, value in described["roles"].items()
        if role != "split_test" or described["roles"]["split_column"]
    }
    files.write_text(
        path,
        template.render(name=name, found=found, described=described, roles=roles, shown=SHOWN),
    )
