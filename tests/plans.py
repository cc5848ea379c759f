"""Holds the plan of a run's configuration against what the finished run recorded."""

from moa_jax import config as configuration
from moa_jax.engine import loading
from moa_jax.plan.outlines import outline
from moa_jax.plan.topology import topology
from moa_jax.recipes import RECIPES
from moa_jax.recipes.host_stage import HostStage
from moa_jax.store import files
from moa_jax.store.workdir import OTHER_FOLDS, Workdir
from moa_jax.training import shapes


def check(folder, selects=()):
    """Compares every stage; those in `selects` leave out columns that a plan cannot know of."""
    workdir = Workdir(folder)
    config = loading.settled(configuration.parse(workdir.read()["config"], RECIPES))
    planned = outline(config, loading.load_data(config), workdir, topology("cpu"))
    assert planned
    for stage, num_inputs, *_ in planned:
        recorded = files.read_json(folder / stage.name / "metrics.json")
        assert len(stage.members) == len(recorded["members"])
        for member, trained in zip(stage.members, recorded["members"], strict=True):
            assert (member.seed, member.fold) == (trained["seed"], trained["fold"])
            assert len(member.train_rows) == trained["train_rows"]
            assert len(member.valid_rows) == trained["valid_rows"]
        if isinstance(stage, HostStage):
            assert (num_inputs, stage.targets.shape[1]) == (recorded["inputs"], recorded["outputs"])
            continue
        steps = max(stage.steps_per_epoch(member) for member in stage.members)
        assert steps == recorded["steps_per_epoch"]
        assert stage.targets.shape[1] == recorded["outputs"]
        parameters = shapes.num_parameters(shapes.state(stage))
        if stage.name in selects:
            assert num_inputs >= recorded["inputs"] and parameters >= recorded["parameters"]
        else:
            assert num_inputs == recorded["inputs"] and parameters == recorded["parameters"]
    stages = (path.parent for path in folder.glob("*/*/metrics.json"))
    finished = {stage for stage in stages if stage.parent.name != OTHER_FOLDS}
    assert finished == {folder / stage.name for stage, *_ in planned}
