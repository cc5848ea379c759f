"""Ghost batches: how PyTorch cuts, masked cuts, single rows, and the normalisation alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tabnet_reference import load

from moa_jax.models.ghost import GhostBatchNorm, ghost_parts

OPS = load("ops")


@pytest.mark.parametrize("width", [None, 1024, 1100])
def test_cuts_like_torch_chunk(width):
    """The same parts whether the batch has that length or is padded to it."""
    for rows, *sizes in OPS["chunk_table"].tolist():
        batch, mask = (rows, None) if width is None else (width, np.arange(width) < rows)
        values = np.arange(1.0, batch + 1)[:, None]
        values[rows:] = np.nan
        real, slots, joined = map(np.asarray, cut_and_join(values, mask))
        found = real.sum(1).tolist()
        expected = [size for size in sizes if size]
        assert found == expected + [0] * (len(found) - len(expected))
        np.testing.assert_array_equal(slots[real.reshape(-1)], values[:rows])
        assert (slots[~real.reshape(-1)] == 0).all()
        np.testing.assert_array_equal(joined[:rows], values[:rows])


@jax.jit
def cut_and_join(values, mask):
    parts = ghost_parts(len(values), 128, mask)
    slots = parts.cut(values)
    return parts.mask, slots, parts.join(slots)


def test_number_of_rows_may_be_traced():
    counts = jnp.array([300, 257, 1, 0])
    masks = jnp.arange(300) < counts[:, None]
    found = jax.jit(jax.vmap(lambda mask: ghost_parts(300, 128, mask).mask.sum(1)))(masks)
    assert found.tolist() == [[100, 100, 100], [86, 86, 85], [1, 0, 0], [0, 0, 0]]


def test_single_rows_arise_only_where_the_docstring_says():
    for virtual in (2, 3, 5, 8, 16):
        for rows in range(1, 3 * virtual**2):
            sizes = np.asarray(ghost_sizes(rows, virtual))
            single = rows == 1 or (rows % virtual == 1 and rows > virtual * (virtual - 1))
            assert (sizes.min() == 1) == single, (virtual, rows)
    assert all(min(ghost_sizes(rows, 128)) > 1 for rows in range(2, 16257))
    assert min(ghost_sizes(16257, 128)) == 1


def ghost_sizes(rows, virtual):
    """Sizes of the parts by torch's rule; there are as many as were asked for."""
    parts = -(-rows // virtual)
    size = -(-rows // parts)
    sizes = [min(size, rows - start) for start in range(0, rows, size)]
    assert len(sizes) == parts
    return sizes


@pytest.mark.parametrize("padding", [0, 38, 726])
def test_normalisation_alone(padding):
    """298 rows in parts of 100, 100 and 98."""
    with jax.enable_x64(True):
        norm = GhostBatchNorm(momentum=0.02)
        x, upstream = (
            np.pad(OPS[key], ((0, padding), (0, 0))) for key in ("gbn_x", "gbn_upstream")
        )
        mask = np.arange(len(x)) < 298 if padding else None
        params = {"scale": OPS["gbn_weight"], "bias": OPS["gbn_bias"]}
        stats = {"mean": np.zeros(3), "var": np.ones(3)}

        def apply(params, x):
            parts = ghost_parts(len(x), 128, mask)
            variables = {"params": params, "batch_stats": stats}
            y, updated = norm.apply(variables, parts.cut(x), parts, mutable=["batch_stats"])
            return parts.join(y), updated["batch_stats"]

        y, pullback, updated = jax.vjp(apply, params, x, has_aux=True)
        found, dx = pullback(upstream)
        for value, name in (
            (y[:298], "y"),
            (dx[:298], "dx"),
            (found["scale"], "dweight"),
            (found["bias"], "dbias"),
            (updated["mean"], "running_mean"),
            (updated["var"], "running_var"),
        ):
            np.testing.assert_allclose(value, OPS[f"gbn_{name}"], rtol=1e-9, atol=1e-11)
        np.testing.assert_array_equal(dx[298:], 0)
        assert OPS["gbn_num_batches_tracked"] == len(ghost_sizes(298, 128))


def test_statistics_follow_the_parts_in_order():
    """Seven parts, one after the other, as a loop over `momentum` would have it."""
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    parts = ghost_parts(len(x), 8)
    norm = GhostBatchNorm(momentum=0.3)
    variables = norm.init(jax.random.key(0), x)
    _, updated = norm.apply(variables, parts.cut(x), parts, mutable=["batch_stats"])
    mean, var = np.zeros(2), np.ones(2)
    for start in range(0, 50, 8):
        chunk = x[start : start + 8]
        mean = 0.7 * mean + 0.3 * chunk.mean(0)
        var = 0.7 * var + 0.3 * chunk.var(0, ddof=1)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["var"], var, rtol=1e-5)


def test_padding_stays_0_in_any_depth():
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    parts = ghost_parts(40, 8, np.arange(40) < 13)
    norm = GhostBatchNorm()
    params = {"scale": np.full(3, 2, np.float32), "bias": np.ones(3, np.float32)}
    stats = norm.init(jax.random.key(0), x)["batch_stats"]
    variables = {"params": params, "batch_stats": stats}
    y, _ = norm.apply(variables, parts.cut(x), parts, mutable=["batch_stats"])
    real = parts.mask.reshape(-1)
    assert real.sum() == 13
    np.testing.assert_array_equal(y[~real], 0)
    assert (y[real] != 0).all()


def test_a_batch_without_rows_changes_nothing():
    x = np.ones((20, 2), np.float32)
    parts = ghost_parts(20, 8, np.zeros(20, bool))
    norm = GhostBatchNorm()
    variables = norm.init(jax.random.key(0), x)
    y, updated = norm.apply(variables, parts.cut(x), parts, mutable=["batch_stats"])
    assert np.isfinite(y).all()
    jax.tree.map(np.testing.assert_array_equal, updated["batch_stats"], variables["batch_stats"])
