#!/usr/bin/env bash
# Train on one or more nodes with Slurm, and go on by itself after preemption or the time limit:
#   sbatch --nodes 2 scripts/slurm_train.sh --config configs/ms3/swin_b_384.yaml SOLVER.IMS_PER_BATCH 16
# Arguments are those of tools/train_net.py. Tasks, GPUs, time and partition are sbatch's options, given before the
# script's name. PYTHON names the interpreter (default: .venv/bin/python, else python3). docs/reliability.md has more.
#SBATCH --job-name=ska-vct
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail

# Slurm runs a copy of this file, so the checkout is the folder that sbatch was called in.
cd "${SKA_VCT_ROOT:-$SLURM_SUBMIT_DIR}"
if [ ! -f tools/train_net.py ]; then
    echo "error: $PWD is not a checkout of SKA-VCT; call sbatch there, or set SKA_VCT_ROOT." >&2
    exit 2
fi
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    [ -x .venv/bin/python ] && PYTHON=.venv/bin/python
fi
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export PYTHON MASTER_ADDR MASTER_PORT

# A task that ends must not end the others before their checkpoint is whole; what hangs after it is ended.
# shellcheck disable=SC2016  # the tasks' variables are expanded in the tasks
srun --kill-on-bad-exit=0 --wait=300 bash -c '
    export RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS LOCAL_RANK=$SLURM_LOCALID
    export LOCAL_WORLD_SIZE=$((SLURM_NTASKS / SLURM_NNODES))
    exec "$PYTHON" tools/train_net.py --resume "$@"
' train "$@"
status=$?
# 75: the training was asked to stop, and has written a checkpoint.
if [ "$status" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID" && exit 0
fi
exit "$status"
