#!/usr/bin/env bash
# Trains on the GPUs of this machine, on one or on all, from one process.
# Usage: bash launch/gpu.sh --config=best_cv --workdir=runs/best_cv [FLAG ...]
# CUDA_VISIBLE_DEVICES=0 is for one of several GPUs; CUDA=12 for drivers older than release 580;
# EXTRAS=torch for image networks, whose published weights PyTorch reads.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" "cuda${CUDA:-13}"

# Without this, a machine whose driver is not found would train on its CPU.
export JAX_PLATFORMS="${JAX_PLATFORMS:-cuda}"
exec .venv/bin/python -m moa_jax.launch "$@"
