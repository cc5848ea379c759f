"""Writes tabnet_{win,hard,alt}_*: three small networks by pytorch-tabnet 2.0.0 in float64.

    python tests/reference/make_tabnet_reference.py

Needs torch and `pip install --no-deps pytorch-tabnet==2.0.0` (only its network is imported); the
suite reads the arrays and runs without them. Names that end in `_f32` are float32.
"""

import copy
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from pytorch_tabnet.tab_network import TabNet

sys.path.insert(0, str(Path(__file__).parents[1]))
from tabnet_reference import (  # noqa: E402
    CLIP,
    LAMBDA_SPARSE,
    RATE,
    RECIPES,
    SMOOTHING,
    WEIGHT_DECAY,
    WINDOWS,
    canonical,
    tabnet_value,
)

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
FOLDER = Path(__file__).parent


def build(cfg):
    net = TabNet(device_name="cpu", **cfg)
    net.load_state_dict(
        {k: torch.as_tensor(tabnet_value(k, tuple(v.shape))) for k, v in net.state_dict().items()}
    )
    return net


def data(name, cfg, tag, rows):
    rng = np.random.default_rng(zlib.crc32(f"{name}/{tag}".encode()))
    x = rng.standard_normal((rows, cfg["input_dim"])).astype(np.float32).astype(np.float64)
    for idx, dim in zip(cfg["cat_idxs"], cfg["cat_dims"], strict=True):
        x[:, idx] = rng.integers(0, dim, size=rows)
    y = (rng.random((rows, cfg["output_dim"])) < 0.1).astype(np.float64)
    return x, y


def smoothed_bce(logits, target, smoothing=SMOOTHING):
    """The winner's loss: smoothing inside the loss, eps inside the logarithms."""
    p = torch.sigmoid(logits)
    t = (1.0 - smoothing / 2) * target + (smoothing / 2) * (1.0 - target)
    return -(t * torch.log(p + 1e-15) + (1.0 - t) * torch.log(1.0 - p + 1e-15)).mean()


def npy(t):
    return t.detach().cpu().numpy().copy()


def stats(net):
    return {
        k: npy(v)
        for k, v in net.state_dict().items()
        if k.endswith(("running_mean", "running_var", "num_batches_tracked"))
    }


def trace(net, x):
    """Outputs of the named submodules, in order of call (ghost batches already joined)."""
    got, hooks = {}, []
    want = {
        "embedder": "embedded",
        "tabnet.initial_bn": "initial_bn",
        "tabnet.initial_splitter.shared": "splitter_shared",
        "tabnet.initial_splitter": "splitter_out",
    }
    for s in range(net.n_steps):
        want[f"tabnet.att_transformers.{s}.fc"] = f"att_fc_{s}"
        want[f"tabnet.att_transformers.{s}.bn"] = f"att_bn_{s}"
        want[f"tabnet.att_transformers.{s}"] = f"mask_{s}"
        want[f"tabnet.feat_transformers.{s}.shared"] = f"feat_shared_{s}"
        want[f"tabnet.feat_transformers.{s}"] = f"feat_out_{s}"
    for mod_name, mod in net.named_modules():
        if mod_name in want:

            def hook(_m, _i, o, _n=want[mod_name]):
                got[_n] = npy(o)

            hooks.append(mod.register_forward_hook(hook))
    logits, m_loss = net(x)
    for h in hooks:
        h.remove()
    got["logits"], got["M_loss"] = npy(logits), npy(m_loss)
    return logits, m_loss, got


def eval_reference(name, cfg):
    net = build(cfg).eval()
    x, y = data(name, cfg, "eval", 50)
    _, _, out = trace(net, torch.as_tensor(x))
    explain, masks = net.forward_masks(torch.as_tensor(x))
    for s, m in masks.items():
        assert np.array_equal(npy(m), out[f"mask_{s}"])
    out["M_explain"] = npy(explain)
    out["x"], out["y"] = x, y
    net32 = copy.deepcopy(net).float()
    torch.set_default_dtype(torch.float32)
    logits32, m_loss32 = net32(torch.as_tensor(x.astype(np.float32)))
    torch.set_default_dtype(torch.float64)
    out["logits_f32"], out["M_loss_f32"] = npy(logits32), npy(m_loss32)
    np.savez_compressed(FOLDER / f"tabnet_{name}_eval.npz", **out)


def train_reference(name, cfg):
    out = {}
    lam = LAMBDA_SPARSE[name]
    x, y = data(name, cfg, "train", 300)
    out["x"], out["y"] = x, y
    xt, yt = torch.as_tensor(x), torch.as_tensor(y)

    # one forward and backward pass in train mode, from the rule's weights
    net = build(cfg).train()
    logits, m_loss, tr = trace(net, xt)
    for k, v in tr.items():
        if k in ("logits", "M_loss") or k.startswith(("mask_", "att_bn_")):
            out[k] = v
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, yt)
    smooth = smoothed_bce(logits, yt)
    loss = smooth - lam * m_loss
    out["bce_with_logits"], out["smoothed_loss"], out["loss"] = npy(bce), npy(smooth), npy(loss)
    out["lambda_sparse"] = np.float64(lam)
    loss.backward()
    total = 0.0
    for k, p in net.named_parameters():
        g = npy(p.grad)
        out[f"grad/{k}"] = g
        total += float((g**2).sum())
    out["grad_global_norm"] = np.sqrt(total)
    for k, v in stats(net).items():
        out[f"stat/{k}"] = v

    # other batch lengths: 257 -> 86+86+85, 130 -> 65+65, 100 -> one ghost batch
    for rows in (257, 130, 100):
        net = build(cfg).train()
        lg, ml, tr = trace(net, xt[:rows])
        out[f"logits_n{rows}"], out[f"M_loss_n{rows}"] = npy(lg), npy(ml)
        st = stats(net)
        for k in (
            "tabnet.initial_bn.running_mean",
            "tabnet.initial_bn.running_var",
            "tabnet.att_transformers.0.bn.bn.running_mean",
            "tabnet.att_transformers.0.bn.bn.running_var",
            "tabnet.att_transformers.0.bn.bn.num_batches_tracked",
        ):
            out[f"stat_n{rows}/{k}"] = st[k]

    # five optimiser steps: rows 0..299, 0..256, 43..299, 0..129, 0..299
    net = build(cfg).train()
    opt = torch.optim.Adam(net.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
    losses, norms = [], []
    for i, (a, b) in enumerate(WINDOWS):
        for p in net.parameters():
            p.grad = None
        lg, ml = net(xt[a:b])
        loss = smoothed_bce(lg, yt[a:b]) - lam * ml
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP[name])))
        opt.step()
        losses.append(float(loss.detach()))
        if i == 0:
            for k, p in net.named_parameters():
                out[f"step1/{k}"] = npy(p)
    for k, v in net.state_dict().items():
        if canonical(k) == k:
            out[f"step5/{k}"] = npy(v)
    settings = (CLIP[name], RATE, WEIGHT_DECAY)
    out["clip_value"], out["lr"], out["weight_decay"] = map(np.float64, settings)
    out["step_windows"] = np.asarray(WINDOWS, dtype=np.int64)
    out["step_losses"], out["step_grad_norms"] = np.asarray(losses), np.asarray(norms)
    xe, _ = data(name, cfg, "eval", 50)
    with torch.no_grad():
        lg, ml = net.eval()(torch.as_tensor(xe))
    out["step5_eval_logits"], out["step5_eval_M_loss"] = npy(lg), npy(ml)
    np.savez_compressed(FOLDER / f"tabnet_{name}_train.npz", **out)


def main():
    for name, cfg in RECIPES.items():
        eval_reference(name, cfg)
        train_reference(name, cfg)
        with open(FOLDER / f"tabnet_{name}_keys.txt", "w") as f:
            for k, v in build(cfg).state_dict().items():
                shape = "x".join(map(str, v.shape)) or "scalar"
                alias = "=" if canonical(k) == k else f"alias of {canonical(k)}"
                f.write(f"{k}\t{shape}\t{alias}\n")


if __name__ == "__main__":
    main()
