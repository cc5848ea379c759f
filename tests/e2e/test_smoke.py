"""The recipes' own smoke sizes on simulated data with genes and cells, from nothing to a report."""

import json

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("config", ["simple_nn", "three_stage_nn", "nn_tabnet", "two_heads_resnet"])
def test_smoke_on_simulated_data(launch, tmp_path, config):
    simulated = ("--config.data.source=simulated", "--config.data.folder=")
    sizes = ("--config.data.rows=600", "--config.data.scored=20", "--config.data.nonscored=30")
    result = launch(tmp_path / "run", *simulated, *sizes, config=f"configs/{config}.py:smoke")
    assert result.returncode == 0, result.stderr
    weights = json.loads((tmp_path / "run" / "blend" / "weights.json").read_text())
    assert weights["loss"] <= weights["best_model_loss"] + 1e-9
    assert (tmp_path / "run" / "submission.csv").exists()
    assert (tmp_path / "run" / "blend" / "report.html").exists()
    for model in weights["weights"]:
        notes = json.loads((tmp_path / "run" / model / "metrics.json").read_text())["notes"]
        assert not any("left out" in note for note in notes)
