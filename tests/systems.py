"""A recipe's stages as a run would train them, in a work folder that is bound to no run."""

from moa_jax.config import RunConfig
from moa_jax.data.dataset import ORIGINAL_LEVELS
from moa_jax.recipes.context import Context
from moa_jax.recipes.system import Fitting
from moa_jax.store.workdir import Workdir
from moa_jax.training.parallel import Devices
from moa_jax.training.progress import MetricsLog


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
