"""What README shows of Python runs, and so do the notebooks of `examples/`."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moa_jax.config import LEVELS_OF_FILES, DataConfig, config_dict
from moa_jax.data import simulate
from moa_jax.engine import settings
from moa_jax.recipes import profile_nn

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
TINY = profile_nn.Config(
    members=2, folds=2, inputs=("standard",), widths=(8,), depths=(1,), steps=(40, 40),
    epoch_steps=40,
)  # fmt: skip


def blocks(title):
    """Returns the blocks of Python of a section of README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"(?ms)^### {title}\n(.*?)^##", text)
    return re.findall(r"(?ms)^```python\n(.*?)^```", section)


def test_readme_from_python(tmp_path, monkeypatch):
    made = simulate.make(rows=60, genes=6, cells=2, scored=3, nonscored=0, test_rows=0, seed=1)
    treated = made.take(np.flatnonzero(~made.is_control))
    X = pd.DataFrame(treated.features, columns=[*treated.genes, *treated.cells])
    Y = pd.DataFrame(treated.targets.values, columns=treated.targets.names)
    given = {
        "X": X.assign(compound=treated.drug_id), "Y": Y, "X_new": X[:9],
        "compounds": np.arange(9) // 3, "target": Y.columns[0],
    }  # fmt: skip
    sizes = config_dict({"profile_nn": TINY}, data=DataConfig(**LEVELS_OF_FILES))
    resolved, asked = settings.resolved, []

    def smaller(config, *others):
        asked.append(config)
        return resolved(sizes, *others)

    monkeypatch.setattr(settings, "resolved", smaller)
    monkeypatch.chdir(tmp_path)
    (block,) = blocks("From Python")
    exec(compile(block, "README.md", "exec"), given)
    assert asked == ["profiles:smoke"]
    assert (tmp_path / "report.html").is_file()
    np.testing.assert_array_equal(
        given["same"].predict_proba(given["X_new"]), given["model"].predict_proba(given["X_new"])
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_hold_no_output(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert cells and all(cell["outputs"] == [] for cell in cells)
    assert all(cell["execution_count"] is None for cell in cells)
    for cell in cells:
        compile("".join(cell["source"]), path.name, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), path.name, "exec"), names)
    assert (tmp_path / "report.html").is_file() and len(names["hits"]) > 0
    assert (names["later"].predict(names["X_new"]) == names["model"].predict(names["X_new"])).all()
