"""Memory per row, from a file to predictions: two sizes, in processes of their own."""

import children
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

COLUMNS, SETS, DEVICES = 200, 2, 4
# Bytes of a cell: features in float32, as they are in the file, and a table of all sets.
FEATURES, TABLE = 4, 4 * SETS
# Ids and the like of a row of few features, and what the system gives more than it was asked for.
BESIDE = 2.5
PROGRAM = r"""
import dataclasses, json, pathlib, resource, sys
sys.path.insert(0, "tests")
rows, folder, work = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
import systems
from moa_jax.data import tables
from moa_jax.recipes import profile, profile_features, profile_nn
from moa_jax.recipes.system import Fitting
from moa_jax.training.layout import Settings
from moa_jax.training.loop import StageRun
from moa_jax.training.parallel import Devices
from moa_jax.training.predict import Predictor, out_of_fold


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# As of tables that are a few times as large.
profile_features.KEPT_BYTES = profile.WHOLE_BYTES = 0
recipe = profile_nn.Config(
    members=1, inputs=("standard",), widths=(0,), depths=(0,), folds=2
)
training = Fitting(recipe, tables.load(folder), systems.context(work))
(design,) = recipe.stages(training.context.levels, False)
read = peak()
stage = training.build(design).stage
built = peak()
devices = Devices.available("auto")
settings = Settings(devices.sharing_rows() if rows == "sharded" else devices, 0, 2)
run = StageRun(stage, work, settings, None)
for group in map(run.group, range(len(run.groups))):
    state = group.validate(group.train_steps(group.init(), 0, 0))[0]
    group.write_weights(state, work / "members")
trained = peak()
members = [member.id for member in stage.members]
there = dataclasses.replace(stage, shared=run.shared.inputs)
predictor = Predictor("", stage.forward, work, members, settings.devices, stage.member_data)
out_of_fold(there, predictor, stage.targets)
print(json.dumps({"read": read, "built": built, "trained": trained, "predicted": peak()}))
"""


def write(folder, rows):
    folder.mkdir()
    generator = np.random.default_rng(0)
    ids = [f"id_{row}" for row in range(rows)]
    values = generator.standard_normal((rows, COLUMNS), np.float32)
    genes = {f"g-{column}": values[:, column] for column in range(COLUMNS)}
    treatment = {"cp_type": ["trt_cp"] * rows, "cp_time": [24] * rows, "cp_dose": ["D1"] * rows}
    features = pa.table({"sig_id": ids, **treatment, **genes})
    pq.write_table(features, folder / "train_features.parquet", row_group_size=8192)
    labels = generator.integers(0, 2, (2, rows)).astype(np.uint8)
    targets = pa.table({"sig_id": ids, "a": labels[0], "b": labels[1]})
    pq.write_table(targets, folder / "train_targets_scored.parquet")


@pytest.mark.slow
def test_a_row_takes_a_stated_number_of_bytes(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", str(DEVICES))
    sizes, found = (40_000, 120_000), {"sharded": [], "replicated": []}
    for rows in sizes:
        write(tmp_path / str(rows), rows)
        for how, peaks in found.items():
            work = tmp_path / f"{how}{rows}"
            work.mkdir()
            peaks += children.found_by(PROGRAM, how, str(tmp_path / str(rows)), str(work))

    def per_cell(how, when):
        few, many = (peak[when] for peak in found[how])
        return (many - few) / (sizes[1] - sizes[0]) / COLUMNS

    # There is no table in float64, and none of all inputs on the host.
    assert per_cell("sharded", "read") < FEATURES + BESIDE
    assert per_cell("sharded", "built") < FEATURES + BESIDE
    # All devices together have one copy of the table, beside one device's part on the host; where
    # rows are not shared, one each.
    for when in ("trained", "predicted"):
        assert per_cell("sharded", when) < FEATURES + TABLE * (1 + 1 / DEVICES)
        assert per_cell("replicated", when) > FEATURES + DEVICES * TABLE
