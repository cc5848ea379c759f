"""The DeepInsight CNN recipe: its networks, its stage, where weights start, and its checks."""

import collections
import dataclasses

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest
from systems import built, context

from moa_jax.config import ParallelConfig, RunConfig, switches
from moa_jax.data import folds, simulate
from moa_jax.engine import run
from moa_jax.errors import UserError
from moa_jax.models import efficientnet
from moa_jax.models.efficientnet import EfficientNet
from moa_jax.plan.outlines import outline
from moa_jax.plan.topology import topology
from moa_jax.pretrained import architectures, weight_files
from moa_jax.recipes.deepinsight_cnn import ORIGINAL, Config
from moa_jax.store.workdir import Workdir
from moa_jax.training import loop, shapes
from moa_jax.training.layout import members_that_fit
from moa_jax.training.parallel import Devices

TINY = Config(
    network="efficientnet_b0", folds=3, resolution=32, embedding="pca", head_width=8, epochs=2,
    pretrained="none",
)  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    return simulate.make(rows=60, genes=9, cells=4, scored=3, nonscored=0, test_rows=0, seed=3)


@pytest.mark.parametrize(
    ("name", "side", "batch", "patience", "parameters"),
    [
        ("efficientnet_b3", 300, 48, 12, 11_588_854),
        ("resnest_v1", 224, 128, 16, 26_049_558),
        ("resnest_v2", 224, 128, 16, 26_049_558),
    ],
)
def test_originals(name, side, batch, patience, parameters):
    config = ORIGINAL[name]
    assert config.original() is config and config.pretrained == "auto"
    assert (config.resolution, config.batch_size, config.patience) == (side, batch, patience)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    network = config.image_network(206)
    variables = jax.eval_shape(network.init, jax.random.key(0), image)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == parameters
    assert {"efficientnet_b3": 0.3, "resnest_v1": 0, "resnest_v2": 0.2}[name] == network.drop_rate
    assert config.network.startswith("resnest") or network.drop_connect_rate == 0.2


def test_rates_that_the_efficientnet_drops_with(monkeypatch):
    """Block i of 26 drops 0.2 i / 26 of its branches where it has a shortcut; then the head."""
    network, branches, features = ORIGINAL["efficientnet_b3"].image_network(206), [], []

    def drop_connect(branch, rate, *_):
        branches.append(rate)
        return branch

    def bernoulli(key, p, shape):
        features.append(1 - p)
        return jnp.ones(shape, bool)

    monkeypatch.setattr(efficientnet, "drop_connect", drop_connect)
    monkeypatch.setattr(jax.random, "bernoulli", bernoulli)
    image = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), image)
    jax.eval_shape(
        lambda variables, image: network.apply(
            variables, image, train=True, mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        ),
        variables,
        image,
    )  # fmt: skip
    first_of_stages = {0, 2, 5, 8, 13, 18, 24}
    expected = [0.2 * i / 26 for i in range(26) if i not in first_of_stages]
    np.testing.assert_allclose(branches, expected, rtol=1e-9)
    np.testing.assert_allclose(features, [0.3], rtol=1e-9)


def test_original_schedule_and_rules():
    """The rate per epoch, the two rules with their two thresholds, and the losses."""
    stage = Config(epochs=20).stage(
        name="cnn/scored", forward=None, members=(), shared=None, targets=None
    )
    optimizer = stage.optimizer(jnp.int32(20 * 3), jnp.ones(()))
    # Without a gradient only the decay moves a weight: by the rate times 1e-6.
    params = {"w": jnp.ones(1)}
    state, moved = optimizer.init(params), []
    for _ in range(60):
        updates, state = optimizer.update({"w": jnp.zeros(1)}, state, params)
        moved.append(float(updates["w"][0]))
    rates = -np.reshape(moved, (20, 3)) / 1e-6
    falling = np.array([3.52e-4, 3.18387e-4, 2.30387e-4, 1.21613e-4, 3.3613e-5])
    period = np.r_[falling, 0, falling[:0:-1]]
    np.testing.assert_allclose(rates, np.tile(period, 2)[:, None].repeat(3, 1), rtol=1e-5)
    assert not rates[[5, 15]].any()
    losses = jnp.float32([0.5, 0.5 - 5e-7, *[0.6] * 11])
    stop, select = stage.stop.init(), stage.select.init()
    for index, loss in enumerate(losses):
        stop, select = stage.stop.update(stop, loss), stage.select.update(select, loss)
        assert bool(select.better) == (index < 2)
        assert bool(stop.stop) == (index == 12)
    logits, targets = jnp.zeros((2, 4)), jnp.eye(2, 4)
    mask = jnp.array([True, False])
    np.testing.assert_allclose(stage.valid_loss(logits, targets, mask), np.log(2), rtol=1e-6)
    sure = 20 * (2 * targets - 1)
    np.testing.assert_allclose(stage.loss(sure, targets, mask), 20 * 0.0005, rtol=1e-4)
    np.testing.assert_allclose(stage.valid_loss(sure, targets, mask), 0, atol=1e-6)


def test_members_train_in_waves_of_one_per_device(rows, tmp_path):
    own = TINY.rows(rows)
    stage = built(TINY, rows, tmp_path, "scored")
    assert stage.forward.inner == "loop" and stage.forward.shares_batches
    assert [m.name for m in stage.members] == [f"seed1120_fold{fold}" for fold in range(3)]
    assert members_that_fit(stage, num_shards=1, memory_bytes=2**40) == 1
    # Control rows are rows like any other, in the order of the ids.
    assert len(stage.shared) == len(rows) > (~rows.is_control).sum()
    assert sorted(rows.ids) == own.ids.tolist()
    np.testing.assert_array_equal(stage.targets, own.scored.values)
    expected = folds.multilabel_stratified(own.scored.values, 3, 1120, shuffle=True)
    found = np.empty(len(rows), int)
    for member in stage.members:
        found[member.valid_rows] = member.fold
        np.testing.assert_array_equal(member.select_rows, member.valid_rows)
    np.testing.assert_array_equal(found, expected)
    honest = built(TINY.honest(), rows, tmp_path, "scored").members[0]
    assert not np.isin(honest.select_rows, [*honest.valid_rows, *honest.train_rows]).any()


@pytest.mark.parametrize(
    "network",
    ["efficientnet_b0", pytest.param("resnest50_fast_2s2x40d", marks=pytest.mark.slow)],
)
def test_a_step_in_bfloat16_keeps_state_and_losses_in_float32(rows, tmp_path, network):
    """Convolutions are of bfloat16; weights, moments, statistics, softmax and loss are not."""
    rate = 0.2 if network.startswith("efficientnet") else 0.0
    low = dataclasses.replace(TINY, network=network, dtype="bfloat16", drop_connect_rate=rate)
    stage = built(low, rows, tmp_path, "scored")
    state, shared = shapes.state(stage), shapes.shared(stage)
    step = jax.make_jaxpr(loop.train(stage, inner="loop"))(state, shapes.train(stage, 1), shared)
    found = jax.tree.map(lambda a: a.dtype, jax.tree.unflatten(
        jax.tree.structure(state), step.out_avals
    ))  # fmt: skip
    assert found == jax.tree.map(lambda a: a.dtype, state)
    assert found.epoch_loss == jnp.float32
    for tree in (found.params, found.batch_stats, found.selected.params):
        assert set(jax.tree.leaves(tree)) == {jnp.dtype("float32")}
    moments = {dtype for dtype in jax.tree.leaves(found.opt) if dtype != jnp.int32}
    assert moments == {jnp.dtype("float32")}
    by_name = collections.defaultdict(set)
    for name, dtype in operations(step.jaxpr):
        by_name[name].add(dtype)
    half, single = jnp.dtype("bfloat16"), jnp.dtype("float32")
    assert by_name["conv_general_dilated"] == {half}
    for name in ("exp", "log", "log1p", "rsqrt"):
        assert half not in by_name[name]
    assert single in by_name["log1p"] and single in by_name["rsqrt"]


def operations(program):
    """Yields name and dtype of every result of a traced program, of those within it too."""
    for equation in program.eqns:
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from operations(inner)
        for result in equation.outvars:
            yield equation.primitive.name, getattr(result.aval, "dtype", None)


@pytest.mark.parametrize(
    ("devices", "parallel", "expected"),
    [
        (8, {}, (8, ((8, 1), (2, 4)))),
        (8, {"strategy": "shard_map"}, (8, ((8, 1), (2, 4)))),
        (8, {"strategy": "pmap"}, (8, ())),
        (8, {"members_at_once": 5}, (5, ())),
        (8, {"devices_per_member": 2}, (4, ())),
        (5, {}, (5, ())),
        (1, {}, (1, ())),
    ],
)
def test_a_last_wave_of_few_members_shares_all_devices(rows, tmp_path, devices, parallel, expected):
    """Members of ten, and the devices of each, of a wave where waves differ."""
    stage = built(TINY, rows, tmp_path, "scored")
    ten = dataclasses.replace(stage, members=(stage.members * 4)[:10])
    config = RunConfig({}, parallel=ParallelConfig(**parallel))
    several = Devices("pmap", (jax.devices()[0],) * devices)
    where = dataclasses.replace(context(tmp_path), config=config, devices=several)
    assert where.cut(ten) == expected
    # Groups that were recorded stay the same on other devices.
    recorded = dataclasses.replace(where, workdir=Recorded([8, 2]))
    few = dataclasses.replace(recorded, devices=Devices("pmap", several.devices[:2]))
    if not parallel:
        assert few.cut(ten) == (8, ((8, 1), (2, 1)))


class Recorded:
    """A work folder that has a value for everything."""

    def __init__(self, value):
        self.value = value

    def resolved(self, name, value, asked):
        return self.value


def test_folds_do_not_depend_on_the_order_of_the_file(rows):
    order = np.random.default_rng(0).permutation(len(rows))
    here, there = (TINY.rows(r) for r in (rows, rows.take(order)))
    np.testing.assert_array_equal(here.ids, there.ids)
    np.testing.assert_array_equal(here.features, there.features)


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    network = EfficientNet("b0", num_outputs=3, head_width=8)
    images = jnp.zeros((1, 32, 32, 3))
    variables = jax.device_get(jax.jit(network.init)(jax.random.key(7), images))
    path = tmp_path_factory.mktemp("weights") / "b0.npz"
    pretrained = weight_files.Pretrained(variables, "efficientnet_b0", "b0.pth", "0" * 64)
    weight_files.write(path, pretrained)
    return path


@pytest.mark.parametrize("head_width", [8, 4])
def test_weights_start_from_a_file(rows, tmp_path, weights_file, head_width):
    """With the head where its widths are the same, else without."""
    config = dataclasses.replace(TINY, pretrained=str(weights_file), head_width=head_width)
    config.check(rows)
    stage = built(config, rows, tmp_path, "scored")
    start = stage.start(stage.members[0])
    stored = weight_files.read(weights_file).variables
    assert ("head" in start["params"]) == (head_width == 8)
    jax.tree.map(
        np.testing.assert_array_equal, start["params"]["conv_stem"], stored["params"]["conv_stem"]
    )
    assert "b0.pth, SHA-256 " + "0" * 64 in config.notes(rows, context(tmp_path))[0]
    assert "at random" in TINY.notes(rows, context(tmp_path))[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "resnest50"}, "drop_connect_rate: expected 0 for resnest50, found 0.2"),
        ({"network": "efficientnet_b1"}, "expected efficientnet_b1, found efficientnet_b0"),
        ({"pretrained": "absent.npz"}, "absent.npz: not found"),
        (
            {"network": "torch_efficientnet_b0", "pretrained": "auto"},
            "pretrained: expected a file or none for torch_efficientnet_b0, found auto",
        ),
        ({"pretrained": "weights.txt"}, "weights.txt: expected one of"),
        (
            {"network": "resnest50", "drop_connect_rate": 0.0, "pretrained": "hub"},
            "pretrained: expected a file for resnest50, found hub",
        ),
        ({"folds": 61}, "folds: expected at most as many as treated rows"),
    ],
)
def test_mistakes_are_told_before_training(rows, weights_file, changes, message):
    config = dataclasses.replace(TINY, **{"pretrained": str(weights_file), **changes})
    with pytest.raises(UserError, match=message):
        config.check(rows)


def unreachable(*_, **__):
    raise OSError("no network")


def test_published_weights_are_fetched_before_any_work_and_by_training_alone(
    rows, tmp_path, monkeypatch
):
    """One line that names the choices; plan and checks look at nothing but the name."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    config = RunConfig({"cnn": dataclasses.replace(TINY, pretrained="auto")})
    workdir = Workdir(tmp_path / "run")
    assert len(outline(config, rows, workdir, topology("cpu"))) == 1
    with pytest.raises(UserError) as error:
        run.train(config, workdir, rows)
    line = str(error.value)
    assert line.startswith("config.models.cnn: pretrained=auto: https://") and "\n" not in line
    assert "tf_efficientnet_b0_ns-c0e6a31c.pth cannot be fetched: no network" in line
    assert "pretrained=FILE" in line and "pretrained=none" in line
    assert not workdir.path.exists()


def test_a_finished_model_fetches_nothing(rows, tmp_path, monkeypatch):
    config = RunConfig({"cnn": dataclasses.replace(TINY, pretrained="auto")})
    prepared = []
    monkeypatch.setattr(Config, "prepare", lambda self: prepared.append(self))
    monkeypatch.setattr(run.system, "is_finished", lambda context: True)
    run.train(config, Workdir(tmp_path / "run"), rows)
    assert prepared == []


def test_notes_say_what_an_image_network_started_from(rows, tmp_path, monkeypatch):
    found = weight_files.Pretrained({}, "efficientnet_b0", "tf_efficientnet_b0_ns.pth", "ab12")
    monkeypatch.setattr(architectures, "find", lambda network, source: found)
    for source in ("auto", "hub"):
        config = dataclasses.replace(TINY, pretrained=source)
        config.prepare()
        note = config.notes(rows, context(tmp_path))[0]
        assert note == "Weights start from tf_efficientnet_b0_ns.pth, SHA-256 ab12."


def test_networks_of_pytorchs_kind():
    network = dataclasses.replace(TINY, network="torch_efficientnet_b0").image_network(3)
    assert (network.padding, network.epsilon) == ("symmetric", 1e-5)
    network = TINY.image_network(3)
    assert (network.padding, network.epsilon) == ("SAME", 1e-3)


def test_switches():
    assert switches(Config()) == {
        "tsne": "legacy", "closing_edge": False, "pretrained": "auto", "select_on": "fold",
        "split": "original", "frequent_above": 18,
    }  # fmt: skip
