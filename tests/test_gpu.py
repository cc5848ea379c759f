"""Training steps compiled for an A100 that is not there move, start and hold no more than recorded.

Needs the compiler, which the extra `cuda-plan` brings. A change that adds copies, keeps activations
or takes fusions apart is seen here; so is a new version of XLA, whose figures are then recorded.
"""

import ceilings
import pytest
from ceilings import Recorded

from moa_jax.plan.topology import has_gpu_compiler

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not has_gpu_compiler(), reason="the extra cuda-plan is not there"),
]

# By flags, the figures of each stage.
B3 = "--config=deepinsight_efficientnet_b3"
STEPS = {
    f"{B3} --config.models.efficientnet_b3.dtype=bfloat16": {
        "efficientnet_b3/scored": Recorded(39.56, 2551, 4.82),
    },
    f"{B3} --config.models.efficientnet_b3.dtype=float32": {
        "efficientnet_b3/scored": Recorded(90.28, 2427, 9.53),
    },
    "--config=deepinsight_resnest --config.models.resnest_v1.dtype=bfloat16": {
        "resnest_v1/scored": Recorded(61.65, 1986, 7.26),
    },
    "--config=deepinsight_resnest --config.models.resnest_v1.dtype=float32": {
        "resnest_v1/scored": Recorded(129.46, 1874, 13.26),
    },
    "--config=three_stage_nn:ten_folds": {
        "three_stage_nn/nonscored": Recorded(19.10, 54, 6.82),
        "three_stage_nn/scored": Recorded(20.12, 54, 7.28),
        "three_stage_nn/stacked": Recorded(4.95, 50, 1.49),
    },
    "--config=nn_tabnet": {
        "nn_tabnet/nonscored": Recorded(8.52, 43, 2.73),
        "nn_tabnet/scored": Recorded(11.39, 228, 1.78),
    },
    "--config=two_heads_resnet:v2": {
        "two_heads_resnet/nonscored": Recorded(9.00, 128, 3.44),
        "two_heads_resnet/scored": Recorded(8.86, 127, 3.36),
        "two_heads_resnet/loop": Recorded(8.86, 127, 3.36),
    },
}


@pytest.mark.parametrize("arguments", STEPS)
def test_no_step_is_larger_than_it_was(arguments):
    ceilings.check(arguments, "a100:1", "compiled for A100", STEPS[arguments])


def test_bfloat16_moves_half():
    """Of B3's activations; weights and what the optimiser keeps are float32 in both."""
    half, full = (
        ceilings.compiled(f"{B3} --config.models.efficientnet_b3.dtype={dtype}", "a100:1")
        for dtype in ("bfloat16", "float32")
    )
    stage = "efficientnet_b3/scored"
    assert half[stage]["GB"] < 0.6 * full[stage]["GB"]
    assert half[stage]["GiB"] < 0.8 * full[stage]["GiB"]
