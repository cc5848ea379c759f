#!/usr/bin/env bash
# Trains on the GPUs of two nodes, by Slurm: one process per GPU. Install once, where there is a
# network, then submit, with other numbers before the script's name where they are needed:
#   bash launch/environment.sh cuda13         (cuda13,torch for image networks' published weights)
#   sbatch [--nodes=4 ...] launch/slurm.sh --config=best_cv --workdir=/shared/runs/best_cv
#SBATCH --job-name=moa-jax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --output=moa-jax-%j.log
# Two minutes before the time limit every process saves a checkpoint and ends with status 138; the
# same command goes on from there.
#SBATCH --signal=USR1@120
set -euo pipefail

# Slurm runs a copy of this file; the checkout, with its .venv, is where sbatch was called.
cd "$SLURM_SUBMIT_DIR"
if [ ! -x .venv/bin/python ]; then
  echo "expected .venv in $PWD; make it with: bash launch/environment.sh cuda13" >&2
  exit 1
fi
# Without this, a node whose driver is not found would train on its CPU.
export JAX_PLATFORMS="${JAX_PLATFORMS:-cuda}"
# What sbatch was told of processors srun would not know.
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then
  export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
fi
# JAX learns from Slurm who takes part.
srun .venv/bin/python -m moa_jax.launch --distributed "$@"
