"""Writes mlp.npz: the dense network, its gradients and 50 training steps, by PyTorch in float64.

    python tests/reference/make_mlp_reference.py

Needs torch (`pip install moa-jax[torch]`); the suite reads the arrays and runs without it.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils import weight_norm

INPUTS, HIDDEN, OUTPUTS = 13, 16, 7
ROWS, BATCH, STEPS, RECORDED = 96, 32, 50, (0, 1, 2, 9, 24, 49)
WEIGHT_DECAY, SMOOTHING = 1e-2, 1e-3  # more decay than in the recipes, so that it shows


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.batch_norm1 = nn.BatchNorm1d(INPUTS)
        self.dense1 = weight_norm(nn.Linear(INPUTS, HIDDEN))
        self.batch_norm2 = nn.BatchNorm1d(HIDDEN)
        self.dense2 = nn.Linear(HIDDEN, HIDDEN)
        self.batch_norm3 = nn.BatchNorm1d(HIDDEN)
        self.dense3 = weight_norm(nn.Linear(HIDDEN, OUTPUTS))

    def layers(self, x):
        seen = {}
        for layer in (1, 2, 3):
            x = seen[f"batch_norm{layer}"] = getattr(self, f"batch_norm{layer}")(x)
            x = seen[f"dense{layer}"] = getattr(self, f"dense{layer}")(x)
            x = nn.functional.leaky_relu(x, 0.01) if layer < 3 else x
        return seen

    def forward(self, x):
        return self.layers(x)["dense3"]


def state(network, prefix):
    return {f"{prefix}/{k}": v.detach().numpy().copy() for k, v in network.state_dict().items()}


def main():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(ROWS, INPUTS)) * np.linspace(0.1, 30, INPUTS) + 3
    y = (generator.random((ROWS, OUTPUTS)) < 0.3).astype(np.float64)
    network = Network()
    # Statistics and affine parameters away from 0 and 1, so that none of them hides.
    for layer in (1, 2, 3):
        norm = getattr(network, f"batch_norm{layer}")
        for tensor, low, high in (
            (norm.weight, 0.5, 1.5),
            (norm.bias, -0.3, 0.3),
            (norm.running_mean, -1, 1),
            (norm.running_var, 0.5, 3),
        ):
            tensor.data = torch.tensor(generator.uniform(low, high, tensor.shape))
    arrays = {"x": x, "y": y, **state(network, "start")}
    inputs, targets = torch.tensor(x), torch.tensor(y)
    loss_function = nn.BCEWithLogitsLoss()

    network.eval()
    for name, value in network.layers(inputs[:BATCH]).items():
        arrays[f"eval/{name}"] = value.detach().numpy()

    # Gradients of one training batch, whole and of 29 rows.
    for rows in (BATCH, 29):
        network = Network()
        network.load_state_dict(
            {k.split("/")[1]: torch.tensor(v) for k, v in arrays.items() if k.startswith("start/")}
        )
        network.train()
        batch = inputs[:rows].clone().requires_grad_(True)
        seen = network.layers(batch)
        loss = loss_function(seen["dense3"], targets[:rows])
        loss.backward()
        arrays[f"train{rows}/loss"] = loss.detach().numpy()
        arrays[f"train{rows}/gradient/x"] = batch.grad.numpy()
        for name, value in seen.items():
            arrays[f"train{rows}/{name}"] = value.detach().numpy()
        for name, parameter in network.named_parameters():
            arrays[f"train{rows}/gradient/{name}"] = parameter.grad.numpy()
        for name, buffer in network.named_buffers():
            arrays[f"train{rows}/statistics/{name}"] = buffer.numpy()

    # Training steps with one-cycle Adam, coupled L2 and smoothed targets; batches of 32, 32, 29.
    network = Network()
    network.load_state_dict(
        {k.split("/")[1]: torch.tensor(v) for k, v in arrays.items() if k.startswith("start/")}
    )
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1e-2, total_steps=STEPS, pct_start=0.1, div_factor=1e3
    )
    order = np.concatenate([generator.permutation(ROWS)[:93] for _ in range(STEPS)])
    losses, rates, momenta, start = [], [], [], 0
    batches = []
    for step in range(STEPS):
        rows = order[start : start + (29 if step % 3 == 2 else BATCH)]
        start += len(rows)
        batches.append(np.pad(rows, (0, BATCH - len(rows))))
        rates.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["betas"][0])
        smooth = targets[rows] * (1 - SMOOTHING) + 0.5 * SMOOTHING
        loss = loss_function(network(inputs[rows]), smooth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step + 1 < STEPS:
            schedule.step()
        losses.append(loss.item())
        if step in RECORDED:
            arrays |= state(network, f"step{step}")
    arrays |= {
        "losses": np.array(losses),
        "rates": np.array(rates),
        "momenta": np.array(momenta),
        "batches": np.array(batches, np.int32),
    }
    arrays = {k: v for k, v in arrays.items() if "num_batches_tracked" not in k}
    np.savez_compressed(Path(__file__).with_name("mlp.npz"), **arrays)


if __name__ == "__main__":
    main()
