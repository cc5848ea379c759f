"""In which precision products of float32 are asked for, program by program, and why."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import systems
import toy

from moa_jax import TabNetClassifier
from moa_jax import config as configuration
from moa_jax.config import RunConfig
from moa_jax.data import simulate
from moa_jax.estimators import tabnet_estimator
from moa_jax.estimators.tabnet_columns import ColumnScale
from moa_jax.models.mlp import TwoLayerMLP
from moa_jax.models.tabnet import TabNet
from moa_jax.models.tabnet_autoencoder import TabNetAutoencoder
from moa_jax.plan import step as plan_step
from moa_jax.recipes import deepinsight_cnn, nn_tabnet, system
from moa_jax.recipes.context import Context
from moa_jax.training import loop, reuse, shapes
from moa_jax.training import weights as weight_files
from moa_jax.training.members import MemberId
from moa_jax.training.parallel import Devices
from moa_jax.training.precision import in_precision
from moa_jax.training.predict import Predictor
from moa_jax.training.stage import Forward
from moa_jax.training.trees import Finished, Prediction, PredictionShared, Validation

IMAGES = deepinsight_cnn.Config(
    network="efficientnet_b0", folds=2, resolution=32, head_width=8, epochs=2, pretrained="none"
)


@pytest.fixture(scope="module")
def rows():
    return simulate.make(rows=60, genes=9, cells=4, scored=3, nonscored=2, test_rows=0, seed=3)


@pytest.fixture
def lowered(monkeypatch):
    """Texts of the programs that would be compiled from now on, none of which is."""
    found = []
    monkeypatch.setattr(reuse, "PROGRAMS", reuse.LastUsed(1))
    monkeypatch.setattr(
        jax.stages.Lowered, "compile", lambda self, *_: found.append(self.as_text())
    )
    return found


def stages_of(recipe, rows, folder, precision):
    config = RunConfig({}, matmul_precision=precision)
    context = Context("model", systems.Unbound(folder), Devices.available("vmap"), config)
    return [built.stage for built in system.outline(recipe, rows, context)]


def compile_all(stage):
    """Asks for a stage's programs of training, validation and prediction as a run does."""
    devices = Devices.available("vmap")
    programs = loop.stage_programs(stage, devices, "vmap")
    state, training, shared = shapes.state(stage), shapes.train(stage, 1), shapes.shared(stage)
    members = functools.partial(devices.member_shapes, per_shard=1)
    own, batches = training
    number = jax.ShapeDtypeStruct((), np.int32)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    table = jax.ShapeDtypeStruct((1, 32), np.int32)
    programs.train.compiled(members(state), members(training), shared)
    programs.validate.compiled(members(state), members(Validation(own, batches, number)), shared)
    programs.predict.compiled(
        (),
        members(Prediction(Finished(variables, own.data), table)),
        PredictionShared(shared.inputs, number),
    )


def precisions(text):
    """The precisions of all products of a program, as XLA is asked for them."""
    lines = re.findall(r"stablehlo\.(?:dot_general|convolution).*", text)
    return [set(re.findall(r"\b(DEFAULT|HIGHEST|HIGH)\b", line)) for line in lines]


@pytest.mark.parametrize(
    ("recipe", "asked", "first", "last"),
    [
        (nn_tabnet.Config(folds=2), "auto", "DEFAULT", "HIGHEST"),
        (nn_tabnet.Config(folds=2), "high", "HIGH", "HIGH"),
        pytest.param(IMAGES, "auto", "DEFAULT", "DEFAULT", marks=pytest.mark.slow),
    ],
)
def test_every_program_of_a_stage_asks_for_its_precision(
    rows, tmp_path, lowered, recipe, asked, first, last
):
    stages = stages_of(recipe, rows, tmp_path, asked)
    for stage, expected in zip(stages, (first, last)[-len(stages) :], strict=True):
        lowered.clear()
        compile_all(stage)
        assert len(lowered) == 3
        for text in lowered:
            found = precisions(text)
            # The lookup of embeddings is a product that is exact in any case.
            lookups = 2 if isinstance(stage.forward.network, TabNet) else 0
            others = [one for one in found if one != {expected}]
            assert len(found) > 2 * lookups and len(others) <= 2 * lookups
            assert not lookups or all(one == {"HIGHEST"} for one in others)
        of_plan = "tf32" if expected == "DEFAULT" else "float32"
        assert plan_step._products_kind(stage) == of_plan


@pytest.mark.parametrize("network", ["efficientnet_b0", "resnest50_fast_2s2x40d"])
def test_image_networks_ask_for_what_they_are_told_to(rows, tmp_path, network):
    recipe = dataclasses.replace(IMAGES, network=network)
    for asked, expected in (("auto", None), ("highest", "highest")):
        (stage,) = stages_of(recipe, rows, tmp_path, asked)
        assert stage.forward.precision == expected


def test_predictions_and_attributions_of_finished_members(tmp_path, lowered):
    """Both are other programs than those of training, compiled where a finished stage is read."""
    network = TwoLayerMLP(4, 3, (0.0, 0.0))
    variables = jax.device_get(network.init(jax.random.key(0), jnp.zeros((2, 5))))
    (tmp_path / "members").mkdir()
    member = MemberId(0, 0)
    weight_files.write(
        tmp_path / "members" / f"{member.name}.npz",
        weight_files.MemberWeights(variables, 1, 1, 0.5),
    )

    def gradients(state, own, shared):
        (kept, _), table = own
        return state, jax.grad(lambda x: network.apply(kept, x).sum())(shared.inputs[table[0]])

    forward = Forward(network, matmul_precision="high", rows_at_once=2)
    for program in (None, gradients):
        lowered.clear()
        predictor = Predictor(
            "m", forward, tmp_path, [member], Devices.available("vmap"), program=program
        )
        with pytest.raises(TypeError):  # nothing was compiled that could be called
            next(predictor(np.zeros((4, 5), np.float32), lambda _: np.zeros((1, 2, 2), int), 2))
        (text,) = lowered
        assert precisions(text) and all(one == {"HIGH"} for one in precisions(text))


def test_tabnets_estimators_predict_as_they_are_trained(monkeypatch):
    seen = []

    def evaluated(variables, x):
        seen.append(jax.config.jax_default_matmul_precision)
        return x

    monkeypatch.setattr(tabnet_estimator, "_program", lambda network, method: evaluated)
    model = TabNetClassifier()
    model.columns_ = ColumnScale.none(2)
    list(model._apply(np.zeros((3, 2), np.float32), None, TabNet(2), {"params": {}}))
    assert seen == ["highest"]
    assert Forward(TabNetAutoencoder(TabNet(2))).precision == "highest"


def test_a_setting_of_jax_stays_where_nothing_asks_for_another(lowered):
    with jax.default_matmul_precision("highest"):
        compile_all(toy.stage())
    assert all(one == {"HIGHEST"} for text in lowered for one in precisions(text))


def test_the_field_is_part_of_the_run():
    """What nobody could choose before changes no hash of a folder."""
    assert "matmul_precision" not in configuration.effective(RunConfig({}))
    fields = configuration.effective(RunConfig({}, matmul_precision="high"))
    assert fields["matmul_precision"] == "high"


def in_bfloat16_products(program, constants, *arguments):
    """Computes a traced program as a TPU does: operands of products that ask for no more rounded.

    `reduce_precision` is not taken back by the compiler, as conversions there and back are.
    """
    known = dict(zip(program.constvars, constants, strict=True))
    known |= dict(zip(program.invars, arguments, strict=True))
    for equation in program.eqns:
        given = [known[v] if v in known else v.val for v in map(_named, equation.invars)]
        name = equation.primitive.name
        inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
        if name in ("jit", "pjit", "custom_jvp_call", "custom_vjp_call"):
            made = in_bfloat16_products(inner.jaxpr, inner.consts, *given)
        else:
            if name == "dot_general" and "HIGHEST" not in str(equation.params["precision"]):
                given = [jax.lax.reduce_precision(x, 8, 7) for x in given]
            made = equation.primitive.bind(*given, **equation.params)
            made = made if equation.primitive.multiple_results else [made]
        known.update(zip(equation.outvars, made, strict=True))
    return [known[v] if v in known else v.val for v in map(_named, program.outvars)]


class _Literal:
    def __init__(self, value):
        self.val = value


def _named(variable):
    """Returns a variable, or its value where it is a literal, which is no key of a dict."""
    return _Literal(variable.val) if hasattr(variable, "val") else variable


# Programs that run once are not worth polishing.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def gradient_error(network, x):
    """Error of a network's gradient at the default precision, as a share of its length.

    It is compared with what this CPU makes of it, which is the same in any precision to the bit.
    """
    variables = network.init(jax.random.key(0), x)
    targets = jnp.asarray(np.random.default_rng(1).random((len(x), 5)) < 0.2, jnp.float32)

    def loss(params):
        outputs, _ = network.apply(
            variables | {"params": params}, x, train=True, mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(1)},
        )  # fmt: skip
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        return jnp.mean(jnp.logaddexp(0, logits) - targets * logits)

    def length(leaves):
        return np.sqrt(sum(float(jnp.square(leaf).sum()) for leaf in leaves))

    exact, params = [], variables["params"]
    for precision in {Forward(network).precision, "default"}:
        with in_precision(precision):
            exact.append(quick(jax.grad(loss))(params))
    for other in exact[1:]:
        jax.tree.map(np.testing.assert_array_equal, exact[0], other)
    program = jax.make_jaxpr(jax.grad(loss))(params)
    emulated = quick(functools.partial(in_bfloat16_products, program.jaxpr, program.consts))
    expected = jax.tree.leaves(exact[0])
    found = emulated(*jax.tree.leaves(params))
    return length(map(jnp.subtract, found, expected)) / length(expected)


def table(rows=64, columns=40):
    return np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)


@pytest.mark.slow
def test_in_bfloat16_the_gradients_of_tabnet_are_those_of_another_network():
    network = TabNet(
        5, n_steps=3, n_independent=1, n_shared=1, mask_type="sparsemax", virtual_batch_size=64
    )
    assert gradient_error(network, table()) > 0.25


def test_in_bfloat16_the_gradients_of_a_dense_network_are_nearly_the_same():
    assert gradient_error(TwoLayerMLP(64, 5, (0.2, 0.25)), table()) < 0.1
