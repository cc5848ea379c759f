#!/usr/bin/env bash
# Trains on all GPUs of this machine from one process, which spreads folds over them by pmap.
# Usage: bash launch/multi_gpu.sh --config=best_cv --workdir=runs/best_cv [FLAG ...]
# CUDA_VISIBLE_DEVICES limits the GPUs; CUDA=12 is for drivers older than release 580.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" "cuda${CUDA:-13}"

# Without this, a machine whose driver is not found would train on its CPU.
export JAX_PLATFORMS="${JAX_PLATFORMS:-cuda}"
exec .venv/bin/python -m moa_jax.launch "$@"
