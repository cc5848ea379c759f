#!/usr/bin/env bash
# One process per GPU on two nodes, by Slurm; adapt the numbers and give the usual flags:
#   sbatch launch/slurm.sh --config=best_cv --workdir=/shared/runs/best_cv
#SBATCH --job-name=moa-jax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --output=moa-jax-%j.log
# Two minutes before the time limit every process saves a checkpoint and ends with status 138; the
# same command goes on from there.
#SBATCH --signal=USR1@120
set -euo pipefail

# Slurm runs a copy of this file; the checkout, with its .venv, is where sbatch was called.
cd "$SLURM_SUBMIT_DIR"
# JAX learns from Slurm who takes part, and gives every task one of its node's GPUs.
srun .venv/bin/python -m moa_jax.launch --distributed "$@"
