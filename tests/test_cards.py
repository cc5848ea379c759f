"""Cards: their figures agree with each other, XLA is told them, and time follows from them."""

import re

import pytest

from moa_jax.plan import gpu_target, roofline
from moa_jax.plan.cards import CARDS
from moa_jax.plan.traffic import Traffic

GPUS = [name for name, card in CARDS.items() if card.platform == "gpu"]


@pytest.mark.parametrize("name", CARDS)
def test_figures_agree(name):
    card = CARDS[name]
    assert card.source.startswith("https://")
    assert card.peak("bfloat16") >= card.peak("tf32") >= card.peak("float32") > 0
    assert 10e9 < card.memory_bytes < 200e9 and 0.2e12 < card.bandwidth < 6e12
    # A TPU does float32 in one pass unless told otherwise, a card without TF32 as it is.
    assert (card.peak("tf32") == card.peak("bfloat16")) == (card.platform == "tpu" or name == "t4")
    assert card.peak("float64") == card.peak("float32")


@pytest.mark.parametrize("name", GPUS)
def test_xla_is_told_the_card(name):
    """Peak float32 of a data sheet is that of the lanes at the highest clock, within rounding."""
    card, found = CARDS[name], gpu_target.text(CARDS[name])
    told = dict(re.findall(r"(\w+): ([\d.]+|\"[^\"]*\")", found))
    assert int(told["device_memory_size"]) == card.memory_bytes
    assert float(told["memory_bandwidth"]) == card.bandwidth
    assert told["device_description_str"] == f'"{card.chip.name}"'
    lanes = int(told["core_count"]) * int(told["fpus_per_core"])
    assert 2e9 * lanes * float(told["clock_rate_ghz"]) == pytest.approx(
        card.peaks["float32"], rel=0.02
    )
    assert found.count("{") == found.count("}") == 4


def test_a_tpu_has_no_target():
    with pytest.raises(ValueError, match="v5e: expected a GPU"):
        gpu_target.text(CARDS["v5e"])


def test_the_longer_of_products_and_memory():
    """Of an A100: 312 TFLOP in bfloat16 and 156 in TF32 are a second each, 2,039 GB one second."""
    work = Traffic(4 * 2.039e12, 10, {"bfloat16": 312e12, "tf32": 156e12, "float32": 19.5e12})
    assert roofline.times(work, CARDS["a100"]) == pytest.approx((3, 4))
    assert roofline.times(work.times(3), CARDS["a100"], 0.5) == pytest.approx((18, 24))
