"""A recipe's stages as a run would train them, in a work folder that is bound to no run."""

import importlib.util
from pathlib import Path

from moa_jax import config as configuration
from moa_jax.config import RunConfig
from moa_jax.data.dataset import ORIGINAL_LEVELS
from moa_jax.recipes import RECIPES
from moa_jax.recipes.context import Context
from moa_jax.recipes.system import Fitting
from moa_jax.store.workdir import Workdir
from moa_jax.training.parallel import Devices
from moa_jax.training.progress import MetricsLog


def tiny(*models, **sections):
    """Returns the run of models of `e2e/tiny.py`, sections of it replaced."""
    path = Path(__file__).with_name("e2e") / "tiny.py"
    spec = importlib.util.spec_from_file_location("tiny", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    values = module.get_config(",".join(models)).to_dict()
    return configuration.parse({**values, **sections}, RECIPES)


class Unbound(Workdir):
    """A work folder without a config.json."""

    def resolved(self, name, value):
        return value


def context(folder, model="model"):
    """Returns where and how a model runs: by default settings, on one device."""
    log = MetricsLog(folder, tensorboard=False)
    return Context(model, Unbound(folder), Devices.available("vmap"), RunConfig({}), log)


def designs(recipe, nonscored=True):
    """Returns the designs of a recipe's stages by name."""
    return {design.name: design for design in recipe.stages(ORIGINAL_LEVELS, nonscored)}


def built(recipe, dataset, folder, name):
    """Returns a stage as it would be fitted, its transforms being fitted and stored."""
    return Fitting(recipe, dataset, context(folder)).build(designs(recipe)[name]).stage
