"""Writes tabnet_ops.npz and tabnet_stage1.npz by PyTorch and pytorch-tabnet 2.0.0 in float64.

    python tests/reference/make_tabnet_parts_reference.py

Single operations of TabNet, and the small network of two dense layers with its one-cycle Adam.
Needs torch and `pip install --no-deps pytorch-tabnet==2.0.0`; the suite runs without them.
"""

import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from pytorch_tabnet import sparsemax as tabnet_sparsemax
from pytorch_tabnet.tab_network import GBN

sys.path.insert(0, str(Path(__file__).parents[1]))
from tabnet_reference import SMOOTHING, stage1_value  # noqa: E402

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
FOLDER = Path(__file__).parent


def smoothed_bce(logits, target, smoothing=SMOOTHING):
    """The winner's loss: smoothing inside the loss, eps inside the logarithms."""
    p = torch.sigmoid(logits)
    t = (1.0 - smoothing / 2) * target + (smoothing / 2) * (1.0 - target)
    return -(t * torch.log(p + 1e-15) + (1.0 - t) * torch.log(1.0 - p + 1e-15)).mean()


def npy(t):
    return t.detach().cpu().numpy().copy()


def ops_reference():
    out = {}
    rng = np.random.default_rng(2020)
    d = 12
    rows = [
        np.zeros(d),  # 0 all equal
        np.concatenate([[10.0], np.zeros(d - 1)]),  # 1 one winner
        np.concatenate([[1.0, 0.0], np.full(d - 2, -1.0)]),  # 2 sparsemax boundary
        np.concatenate([[2.0, 0.0], np.full(d - 2, -3.0)]),  # 3 entmax15 boundary
        np.concatenate([[1.5, 1.5, 1.5], np.full(d - 3, 0.5)]),  # 4 tie at the top
        np.linspace(-1.0, 1.0, d),  # 5 even steps
        rng.standard_normal(d),  # 6
        5.0 * rng.standard_normal(d),  # 7
        0.1 * rng.standard_normal(d),  # 8
        1e4 + rng.standard_normal(d),  # 9 large offset
        -1e4 + 3.0 * rng.standard_normal(d),  # 10
        np.concatenate([rng.standard_normal(d // 2), rng.standard_normal(d // 2) - 50.0]),  # 11
    ]
    z = np.stack(rows)
    g = rng.standard_normal(z.shape)
    out["act_z"], out["act_upstream"] = z, g
    for fn_name in ("entmax15", "sparsemax"):
        fn = getattr(tabnet_sparsemax, fn_name)
        for suffix, dt in (("", np.float64), ("_f32", np.float32)):
            zt = torch.as_tensor(z.astype(dt)).requires_grad_(True)
            # clone(): the library's sparsemax writes into its argument
            p = fn(zt.clone(), -1)
            p.backward(torch.as_tensor(g.astype(dt)))
            out[f"{fn_name}_p{suffix}"] = npy(p)
            out[f"{fn_name}_dz{suffix}"] = npy(zt.grad)
    wide = rng.standard_normal((16, 1497))
    wide_g = rng.standard_normal((16, 1497))
    for fn_name in ("entmax15", "sparsemax"):
        fn = getattr(tabnet_sparsemax, fn_name)
        zt = torch.as_tensor(wide).requires_grad_(True)
        p = fn(zt.clone(), -1)
        p.backward(torch.as_tensor(wide_g))
        out[f"wide_{fn_name}_p"], out[f"wide_{fn_name}_dz"] = npy(p), npy(zt.grad)
    out["wide_z"], out["wide_upstream"] = wide, wide_g

    # how a batch is cut into ghost batches (virtual batch size 128)
    small, large = [1, 2, 100, 127, 128, 129, 130, 255, 256, 257], [297, 298, 300, 384, 385]
    ns = [*small, *large, 512, 700, 897, 1023, 1024]
    table = np.zeros((len(ns), 9), dtype=np.int64)
    for i, n in enumerate(ns):
        sizes = [c.shape[0] for c in torch.zeros(n, 1).chunk(int(np.ceil(n / 128)), 0)]
        table[i, 0] = n
        table[i, 1 : 1 + len(sizes)] = sizes
    out["chunk_table"] = table

    # ghost batch norm alone, momentum 0.02, 298 rows -> 100+100+98
    gbn = GBN(3, virtual_batch_size=128, momentum=0.02).train()
    gx = 3.0 + 2.0 * rng.standard_normal((298, 3))
    with torch.no_grad():
        gbn.bn.weight.copy_(torch.tensor([1.0, 0.5, -2.0]))
        gbn.bn.bias.copy_(torch.tensor([0.0, 1.0, 0.25]))
    gup = rng.standard_normal(gx.shape)
    gxt = torch.as_tensor(gx).requires_grad_(True)
    gy = gbn(gxt)
    gy.backward(torch.as_tensor(gup))
    out.update(
        gbn_x=gx,
        gbn_upstream=gup,
        gbn_weight=npy(gbn.bn.weight),
        gbn_bias=npy(gbn.bn.bias),
        gbn_y=npy(gy),
        gbn_dx=npy(gxt.grad),
        gbn_dweight=npy(gbn.bn.weight.grad),
        gbn_dbias=npy(gbn.bn.bias.grad),
        gbn_running_mean=npy(gbn.bn.running_mean),
        gbn_running_var=npy(gbn.bn.running_var),
        gbn_num_batches_tracked=npy(gbn.bn.num_batches_tracked),
    )

    # the smoothed loss, one logit at a time (sum instead of mean has no part here)
    positive = np.array([1.0, 5.0, 10.0, 20.0, 40.0, 50.0, 100.0])
    logit = np.concatenate([-positive[::-1], [0.0], positive])
    for suffix, dt in (("", np.float64), ("_f32", np.float32)):
        vals, grads = [], []
        for t in (0.0, 1.0):
            lt = torch.as_tensor(logit.astype(dt)).requires_grad_(True)
            v = torch.stack(
                [
                    smoothed_bce(lt[i : i + 1], torch.full((1,), t, dtype=lt.dtype))
                    for i in range(len(logit))
                ]
            )
            v.sum().backward()
            vals.append(npy(v))
            grads.append(npy(lt.grad))
        out[f"smooth_loss{suffix}"], out[f"smooth_dlogit{suffix}"] = np.stack(vals), np.stack(grads)
    out["smooth_logit"] = logit
    np.savez_compressed(FOLDER / "tabnet_ops.npz", **out)


class Stage1(torch.nn.Module):
    """BN, weight-normed linear, ReLU, BN, weight-normed linear; both dropouts at 0 here."""

    def __init__(self, n_in, n_hidden, n_out):
        super().__init__()
        wn = torch.nn.utils.weight_norm
        self.batch_norm1 = torch.nn.BatchNorm1d(n_in)
        self.dense1 = wn(torch.nn.Linear(n_in, n_hidden))
        self.batch_norm3 = torch.nn.BatchNorm1d(n_hidden)
        self.dense3 = wn(torch.nn.Linear(n_hidden, n_out))

    def forward(self, x):
        return self.dense3(self.batch_norm3(torch.relu(self.dense1(self.batch_norm1(x)))))


def stage1_reference():
    out = {}
    n_in, n_hidden, n_out, rows = 20, 32, 7, 64

    def build_stage1():
        m = Stage1(n_in, n_hidden, n_out)
        m.load_state_dict(
            {k: torch.as_tensor(stage1_value(k, tuple(v.shape))) for k, v in m.state_dict().items()}
        )
        return m

    rng = np.random.default_rng(zlib.crc32(b"stage1/data"))
    x = rng.standard_normal((rows, n_in))
    y = (rng.random((rows, n_out)) < 0.2).astype(np.float64)
    out["x"], out["y"] = x, y
    xt, yt = torch.as_tensor(x), torch.as_tensor(y)
    loss_fn = torch.nn.BCEWithLogitsLoss()
    out["eval_logits"] = npy(build_stage1().eval()(xt))
    first = build_stage1().train()
    lg = first(xt)
    loss_fn(lg, yt).backward()
    out["train_logits"] = npy(lg)
    for k, p in first.named_parameters():
        out[f"grad/{k}"] = npy(p.grad)
    # the optimiser of stage 1 on a short schedule: 2 epochs of 4 batches of 16 rows
    net = build_stage1().train()
    opt = torch.optim.Adam(net.parameters(), lr=5e-4, weight_decay=1e-5)
    sched = torch.optim.lr_scheduler.OneCycleLR(
        opt, pct_start=0.2, div_factor=1e3, max_lr=1e-2, epochs=2, steps_per_epoch=4
    )
    losses, lrs, beta1s = [], [], []
    for i in range(8):
        a = 16 * (i % 4)
        opt.zero_grad()
        loss = loss_fn(net(xt[a : a + 16]), yt[a : a + 16])
        loss.backward()
        lrs.append(opt.param_groups[0]["lr"])
        beta1s.append(opt.param_groups[0]["betas"][0])
        opt.step()
        sched.step()
        losses.append(float(loss.detach()))
    for k, v in net.state_dict().items():
        out[f"step8/{k}"] = npy(v)
    out["step_losses"], out["step_lr"], out["step_beta1"] = map(np.asarray, (losses, lrs, beta1s))
    out["step8_eval_logits"] = npy(net.eval()(xt))
    # the schedule of the real run: 15 epochs of 78 batches
    opt = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=5e-4)
    sched = torch.optim.lr_scheduler.OneCycleLR(
        opt, pct_start=0.2, div_factor=1e3, max_lr=1e-2, epochs=15, steps_per_epoch=78
    )
    lrs, beta1s = [], []
    for _ in range(15 * 78):
        lrs.append(opt.param_groups[0]["lr"])
        beta1s.append(opt.param_groups[0]["betas"][0])
        opt.step()
        sched.step()
    out["onecycle_lr"], out["onecycle_beta1"] = np.asarray(lrs), np.asarray(beta1s)
    np.savez_compressed(FOLDER / "tabnet_stage1.npz", **out)


if __name__ == "__main__":
    ops_reference()
    stage1_reference()
