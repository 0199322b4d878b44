"""Where the datasets are, and their names in Detectron2's catalogue."""

import os
from pathlib import Path

from detectron2.config import CfgNode

from ska_vct.data.catalog import register_splits
from ska_vct.data.own import own_facts
from ska_vct.data.registry import dataset_names, register_dataset

ROOT_VARIABLE = "DETECTRON2_DATASETS"


def resolve_root(cfg: CfgNode) -> Path:
    """Folder of the releases: ``DATASETS.ROOT``, else ``$DETECTRON2_DATASETS``, else ``datasets``."""
    return Path(cfg.DATASETS.ROOT or os.environ.get(ROOT_VARIABLE) or "datasets").expanduser()


def register_datasets(cfg: CfgNode) -> None:
    """Register every split of every dataset below :func:`resolve_root`; nothing is read before it is used.

    Raises:
        OwnDatasetError: ``DATASETS.OWN`` does not describe a dataset.
    """
    root = resolve_root(cfg)
    if cfg.DATASETS.OWN.NAME:
        register_dataset(own_facts(cfg.DATASETS.OWN))
    for name in dataset_names():
        register_splits(name, root, **record_options(cfg))


def record_options(cfg: CfgNode) -> dict:
    """What the configuration says about where a clip's files are: keyword arguments of ``load_records``."""
    return {
        "prefer_rebuilt": cfg.DATASETS.PREFER_REBUILT,
        "flow_root": cfg.INPUT.FLOW.ROOT,
        "pre_masks": cfg.MODEL.PRE_MASK.ENABLED,
        "pre_mask_root": cfg.INPUT.PRE_MASK.ROOT,
        "prepared": cfg.DATASETS.PREPARED,
        "leave_out": cfg.DATASETS.LEAVE_OUT,
    }
