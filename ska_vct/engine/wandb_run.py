"""Weights & Biases, an optional extra (``pip install -e .[wandb]``): it receives what TensorBoard shows."""

import os

import yaml
from detectron2.config import CfgNode

from ska_vct.utils.errors import InputError

_KEY = "LOG.WANDB"


def start_wandb(cfg: CfgNode) -> None:
    """Start a run of the project ``LOG.WANDB``; it ends with the process. Nothing happens if the key is empty.

    Call it before TensorBoard's writer is made, whose events are sent.

    Raises:
        InputError: the package is not installed, or the run cannot be started.
    """
    if not cfg.LOG.WANDB:
        return
    try:
        import wandb
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "wandb":
            raise
        raise InputError(
            f"{_KEY} is '{cfg.LOG.WANDB}', but the package wandb is not installed; install it with pip install "
            "wandb, or leave the key empty."
        ) from None
    folder = os.path.abspath(cfg.OUTPUT_DIR)
    try:
        wandb.init(
            project=cfg.LOG.WANDB,
            name=os.path.basename(folder),
            dir=folder,
            config=yaml.safe_load(cfg.dump()),
            sync_tensorboard=True,
        )
    except wandb.errors.Error as error:
        raise InputError(
            f"Weights & Biases cannot start ({' '.join(str(error).split())}); run 'wandb login', set "
            f"WANDB_MODE=offline, or leave {_KEY} empty."
        ) from None
