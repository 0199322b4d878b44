"""The authors' rule for another batch: the learning rate grows with its square root (docs/recipe.md).

python -c "from ska_vct.engine.recipe import scaled_lr; print(scaled_lr(1e-4, 2, 8))"
"""

import math

from detectron2.config import CfgNode


def scaled_lr(lr: float, batch: int, new_batch: int) -> float:
    """Learning rate for ``new_batch`` clips where ``lr`` is that for ``batch`` clips.

    Raises:
        ValueError: a batch is below 1.
    """
    if min(batch, new_batch) < 1:
        raise ValueError(f"Batches must hold at least one clip, got {batch} and {new_batch}.")
    return lr * math.sqrt(new_batch / batch)


def batch_note(cfg: CfgNode, file_cfg: CfgNode) -> str:
    """What to say of a run whose batch is not that of its config file; empty where it is.

    Args:
        cfg: the run's config.
        file_cfg: the config of its file, without what the command line changed.
    """
    lr, batch = file_cfg.SOLVER.BASE_LR, file_cfg.SOLVER.IMS_PER_BATCH
    new_lr, new_batch = cfg.SOLVER.BASE_LR, cfg.SOLVER.IMS_PER_BATCH
    if new_batch == batch:
        return ""
    rule = scaled_lr(lr, batch, new_batch)
    note = (
        f"SOLVER.IMS_PER_BATCH is {new_batch}, in the config file {batch} with SOLVER.BASE_LR {lr:g}. The "
        f"square-root rule gives {rule:.2g} for this batch"
    )
    if math.isclose(new_lr, rule, rel_tol=0.02):
        return f"{note}, which is what this run uses."
    return f"{note}; this run uses {new_lr:g}. To follow the rule, add SOLVER.BASE_LR {rule:.2g}."
