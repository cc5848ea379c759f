"""Smoke sizes from nothing to a report: recipes on simulated data, both blends on the sample."""

import json

import plans
import pytest


@pytest.mark.slow
@pytest.mark.parametrize("config", ["simple_nn", "three_stage_nn", "nn_tabnet", "two_heads_resnet"])
def test_smoke_on_simulated_data(launch, tmp_path, config):
    simulated = ("--config.data.source=simulated", "--config.data.folder=")
    sizes = ("--config.data.rows=600", "--config.data.scored=20", "--config.data.nonscored=30")
    result = launch(tmp_path / "run", *simulated, *sizes, config=f"configs/{config}.py:smoke")
    weights = check(result, tmp_path / "run")["weights"]
    plans.check(tmp_path / "run", selects=("nn_tabnet/nonscored",))
    for model in weights:
        notes = json.loads((tmp_path / "run" / model / "metrics.json").read_text())["notes"]
        assert not any("left out" in note for note in notes)


@pytest.mark.slow
@pytest.mark.parametrize("config", ["best_cv", "best_lb", "profiles"])
def test_smoke_of_whole_blends_on_the_embedded_data(launch, tmp_path, config):
    result = launch(tmp_path / "run", "--config.data.folder=", config=f"configs/{config}.py:smoke")
    check(result, tmp_path / "run", fixed=config == "best_lb")
    plans.check(tmp_path / "run", selects=("nn_tabnet/nonscored",))


def check(result, folder, fixed=False):
    """Returns the weights of a whole run, no worse than its best model unless they were given."""
    assert result.returncode == 0, result.stderr
    weights = json.loads((folder / "blend" / "weights.json").read_text())
    assert fixed or weights["loss"] <= weights["best_model_loss"] + 1e-9
    assert (folder / "submission.csv").exists()
    assert (folder / "blend" / "report.html").exists()
    return weights
