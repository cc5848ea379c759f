"""A recipe's stages as a run would train them, in a work folder that is bound to no run."""

import dataclasses
import importlib.util
from pathlib import Path

import jax
import numpy as np

from moa_jax import config as configuration
from moa_jax.config import RunConfig
from moa_jax.data.dataset import ORIGINAL_LEVELS
from moa_jax.data.folds import Split
from moa_jax.recipes import RECIPES, system
from moa_jax.recipes.context import Context
from moa_jax.recipes.features import Known, Passage
from moa_jax.recipes.stage_predictions import StagePredictions
from moa_jax.recipes.system import Fitting
from moa_jax.store import transform_files
from moa_jax.store.workdir import Workdir
from moa_jax.training.parallel import Devices
from moa_jax.training.progress import MetricsLog


class Stored:
    """Stands for the sets that a stage's members read, of a chain that need not be nested."""

    def __init__(self, blocks, read):
        self.blocks, self.read = blocks, read

    def __call__(self, stage):
        return self.read(stage)


def whole(predictions):
    """Returns arrays of predictions as those of stages that are not nested, by name."""
    return {name: StagePredictions(values) for name, values in dict(predictions).items()}


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

    def resolved(self, name, value, asked=False):
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


def folds_of(design, rows):
    """Returns the fold of each row for every training seed of a stage."""
    return design.split(rows).folds


def inputs_of(recipe, dataset, name, predictions=()):
    """Returns a dense stage's inputs [treated rows, F], transforms being fitted on all rows.

    `predictions` are those of the earlier stages, by name, of the treated rows.
    """
    rows, predictions = recipe.rows(dataset), whole(predictions)
    known = Known(dataset, rows, {"all": np.ones(len(rows), bool)}, predictions, {"all": ()})
    every = designs(recipe)
    features = every[name].features
    made = {
        stage: dict(every[stage].features.fit(known, ["all"]))["all"]
        for stage in {name, features.profile_of or name}
    }
    passage = Passage(rows)
    passage.predictions.update(predictions)
    return features.table(passage, name, Stored([()], lambda stage: [made[stage]]))[:, 0]


def built_on_folds(recipe, dataset, folder, name, fold_of_row, predictions=()):
    """Returns a stage as it would be fitted on given folds, the same for every seed.

    The stages before it are built in the same folder, whose transforms it may read; `predictions`
    are theirs.
    """
    training = Fitting(recipe, dataset, context(folder))
    training.passage.predictions.update(whole(predictions))
    for stage, design in designs(recipe).items():
        folds = dict.fromkeys(folds_of(design, training.passage.rows), fold_of_row)
        given = dataclasses.replace(design, split=lambda rows, f=folds: Split(f))
        made = training.build(given).stage
        if stage == name:
            return made


def stored_set(recipe, folder, name, member):
    """Returns the stored transforms that a member of a stage reads, by name."""
    features = designs(recipe)[name].features
    path = features.folder(context(folder), name) / features.set_of(member.id)
    return transform_files.load(path, features.classes)


def inputs_by(recipe, rows, folder, name, member, predictions=()):
    """Returns what a member reads of all rows through the transforms stored for it alone."""
    features, passage = designs(recipe)[name].features, Passage(rows)
    passage.predictions.update(whole(predictions))
    own = stored_set(recipe, folder, name, member)
    stored = Stored([()], lambda stage: [stored_set(recipe, folder, stage, member)])
    table = features.table(passage, name, stored)
    data = features.member_data([own], np.zeros(1, np.int32), [member.train_rows])
    data = jax.tree.map(lambda a: a[0], data)
    found = features.inputs(table, data, np.arange(len(rows)), jax.random.key(0), False)
    return [np.asarray(part) for part in found]


def transforms_of(profile, rows):
    """Returns the transforms that a profile asks for, by name, nothing being fitted."""
    made = {}

    def steps(name, new, values, on_train_alone=False):
        made[name] = new()
        return values

    steps.derive = lambda names, function, values: function(values)
    profile.columns(rows.features, len(rows.genes), steps)
    return made


def widths_of(recipe, dataset, folder):
    """Returns the number of inputs of every stage by name, nothing being fitted."""
    outlines = system.outline(recipe, dataset, context(folder))
    return {built.stage.name.split("/")[-1]: built.num_inputs for built in outlines}


def own_inputs(stage):
    """Returns what each member of a built stage reads of all rows, its first input [M, N, F]."""
    rows = np.arange(len(stage.targets))

    def of_member(own):
        return stage.forward.inputs(stage.shared, own, rows, jax.random.key(0), False)

    return [
        [
            np.asarray(part)
            for part in of_member(jax.tree.map(lambda a, i=index: a[i], stage.member_data))
        ]
        for index in range(len(stage.members))
    ]
