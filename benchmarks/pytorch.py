"""PyTorch on the cores that this process may use, with the same draws every time."""

import os

import torch

__all__ = ["torch"]

torch.set_num_threads(len(os.sched_getaffinity(0)))
torch.manual_seed(0)
