"""The rooms of the package: imports go one way, files stay short, names mean one thing."""

import ast
import collections
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "moa_jax"
# What each room imports beside config, errors, schema and store, as CONTRIBUTING.md says.
BELOW = {
    "command": {
        "answers", "blend", "data", "engine", "plan", "prepare", "recipes", "report", "training",
    },
    "plan": {"data", "engine", "recipes", "training"},
    "prepare": {"report", "data"},
    "estimators": {
        "answers", "data", "deepinsight", "engine", "models", "pretrained", "recipes", "report",
        "training",
    },
    "engine": {
        "answers", "blend", "configs", "data", "deepinsight", "recipes", "report", "training",
    },
    "report": {"answers", "blend", "deepinsight", "training", "data"},
    "answers": {"training", "data"},
    "recipes": {
        "deepinsight", "learners", "training", "pretrained", "features", "models", "data",
    },
    "blend": {"training", "data"},
    "deepinsight": {"features", "data"},
    "learners": {"data"},
    "training": {"models"},
    "pretrained": {"models"},
    "features": set(),
    "models": set(),
    "data": set(),
    "store": set(),
}  # fmt: skip
EVERYWHERE = {"config", "errors", "schema", "store"}


def files():
    return [path for path in PACKAGE.rglob("*.py") if path.parent.name != "configs"]


def imported(path):
    """Modules of the package that a file imports anywhere, as far as `moa_jax.room.module`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (".".join(name.split(".")[:3]) for name in names)


def imported_here(path):
    return {name for name in imported(path) if name.startswith("moa_jax.")}


def test_imports_go_down():
    found = collections.defaultdict(set)
    for path in files():
        room = path.relative_to(PACKAGE).parts[0]
        found[room] |= {name.split(".")[1] for name in imported_here(path)}
    for room, below in BELOW.items():
        assert found[room] - EVERYWHERE - {room} <= below, room
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir()} >= BELOW.keys()
    order = list(BELOW)
    for room, below in BELOW.items():
        assert all(order.index(other) > order.index(room) for other in below - {"configs"})


def test_features_know_no_jax_and_training_no_recipe():
    for path in files():
        text = path.read_text(encoding="utf-8")
        if path.parent.name == "features":
            assert not {"jax", "flax", "optax"} & {n.split(".")[0] for n in imported(path)}, path
        if path.parent.name != "recipes":
            for recipe in ("deepinsight_cnn", "nn_tabnet", "two_heads_resnet", "three_stage_nn"):
                assert f'"{recipe}"' not in text, path


def test_no_circles():
    graph = {}
    modules = {
        ".".join(("moa_jax", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in files()
    }
    for path in files():
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(("moa_jax", *(part for part in parts if part != "__init__")))
        # A name of a package, such as `moa_jax.recipes.RECIPES`, comes from its `__init__`.
        graph[name] = {n if n in modules else n.rpartition(".")[0] for n in imported_here(path)}

    def visit(name, above):
        assert name not in above, (*above, name)
        for other in graph.get(name, set()) - done:
            visit(other, (*above, name))
        done.add(name)

    done = set()
    for name in graph:
        visit(name, ())


def test_no_file_is_long():
    lengths = sorted(len(path.read_text(encoding="utf-8").splitlines()) for path in files())
    assert lengths[-1] <= 400
    assert lengths[len(lengths) // 2] < 150


def test_classes_have_names_of_their_own():
    found = collections.defaultdict(list)
    for path in files():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                found[node.name].append(path.name)
    twice = {name: where for name, where in found.items() if len(where) > 1}
    # Every recipe's configuration is its module's `Config`.
    assert twice.keys() == {"Config"}
