"""What a run compiles: one program per network, stage, kind and shape, and nothing twice."""

import re

import pytest

from moa_jax.store import files

# Network, stage, slots in training, and slots in each program that predicts: rows out of fold and
# new rows are tables of different lengths; the two heads' first stages see no new rows. Image
# networks train in waves of one member per device and predict all at once.
TINY = [
    ("MLP", "simple_nn_old/scored", 6, (6, 6)),
]
TINY_CHAIN = [
    ("TwoLayerMLP", "nn_tabnet/nonscored", 6, (6, 6)),
    ("TabNet", "nn_tabnet/scored", 6, (6, 6)),
]
BEST_CV = [
    ("EfficientNet", "efficientnet_b3/scored", 1, (2, 2)),
    ("ResNeSt", "resnest_v1/scored", 1, (2, 2)),
    ("ResNeSt", "resnest_v2/scored", 1, (2, 2)),
    ("MLP", "three_stage_nn/nonscored", 10, (10, 10)),
    ("MLP", "three_stage_nn/scored", 10, (10, 10)),
    ("MLP", "three_stage_nn/stacked", 10, (10, 10)),
    ("TwoHeads", "two_heads_resnet/nonscored", 5, (5,)),
    ("TwoHeads", "two_heads_resnet/scored", 5, (5,)),
    ("TwoHeads", "two_heads_resnet/loop", 5, (5, 5)),
]


def compilations(result, workdir):
    """Returns (network, stage, kind, slots) of every program that a run asked XLA for."""
    assert result.returncode == 0, result.stderr
    found = re.findall(r" (\S+): (\w+): compiled for (\d+) slots", result.stderr)
    return sorted(
        (files.read_json(workdir / stage / "metrics.json")["network"], stage, kind, int(slots))
        for stage, kind, slots in found
    )


@pytest.mark.parametrize(
    ("config", "networks"),
    [
        pytest.param("tests/e2e/tiny.py:simple_nn_old", TINY, marks=pytest.mark.slow),
        pytest.param("tests/e2e/tiny.py:nn_tabnet", TINY_CHAIN, marks=pytest.mark.slow),
        pytest.param("configs/best_cv.py:smoke", BEST_CV, marks=pytest.mark.slow),
    ],
    ids=["tiny", "tiny_chain", "best_cv"],
)
def test_what_is_compiled_and_that_it_is_kept(launch, tmp_path, config, networks):
    cache = tmp_path / "cache"
    arguments = [] if config.startswith("tests") else ["--config.data.folder="]

    def run(name):
        environment = {"JAX_COMPILATION_CACHE_DIR": str(cache)}
        result = launch(tmp_path / name, *arguments, config=config, env=environment)
        return compilations(result, tmp_path / name), {p.name for p in cache.glob("*-cache")}

    expected = sorted(
        (network, stage, kind, number)
        for network, stage, slots, predicted in networks
        for kind, number in [
            ("initialise", slots), ("train", slots), ("validate", slots),
            *(("predict", number) for number in predicted),
        ]
    )  # fmt: skip
    listed, compiled = run("first")
    assert listed == expected
    # The cache has these programs and the small ones around them; a second run adds none.
    assert len(compiled) >= len(set(listed))
    again, after = run("second")
    assert again == expected
    assert after == compiled
