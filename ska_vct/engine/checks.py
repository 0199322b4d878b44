"""Checks for contradictions in a configuration, before a run spends hours on it."""

import logging

import detectron2.utils.comm as comm
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from ska_vct.data.facts import SPLITS
from ska_vct.data.registry import dataset_names, get_facts
from ska_vct.utils.errors import SkaVctError

_LOGGER = logging.getLogger(__name__)


class CheckError(SkaVctError, ValueError):
    """Parts of a configuration contradict each other."""


def check_cfg(cfg: CfgNode, *, eval_only: bool = False, resume: bool = False) -> None:
    """Check ``cfg`` before anything is built; switches mixed precision off without CUDA.

    Args:
        cfg: not frozen.
        eval_only: as on the command line.
        resume: whether the run resumes from a checkpoint.

    Raises:
        CheckError: keys contradict each other; the message says which, and what to set.
    """
    _check_names(cfg, eval_only)
    _check_classes(cfg)
    _check_widths(cfg)
    _check_weights(cfg, eval_only, resume)
    _check_batch(cfg)
    _check_amp(cfg)


def _check_names(cfg: CfgNode, eval_only: bool) -> None:
    if cfg.DATASETS.SUBSET not in dataset_names():
        raise CheckError(
            f"DATASETS.SUBSET is '{cfg.DATASETS.SUBSET}'; choose one of {', '.join(dataset_names())}, or register "
            "a dataset of your own (docs/extending.md)."
        )
    needed = ("TEST",) if eval_only else ("TRAIN", "VAL")
    for key in needed:
        names = cfg.DATASETS[key]
        if not names and key != "VAL":
            raise CheckError(f"DATASETS.{key} is empty; name a dataset, e.g. avsbench_ms3_{key.lower()}.")
        for name in names:
            if name not in DatasetCatalog:
                ours = [get_facts(known).split_name(split) for known in dataset_names() for split in SPLITS]
                raise CheckError(f"DATASETS.{key}: there is no dataset '{name}'; there are {', '.join(ours)}.")


def _check_classes(cfg: CfgNode) -> None:
    subset = get_facts(cfg.DATASETS.SUBSET)
    if cfg.MODEL.NUM_CLASSES != subset.num_classes:
        raise CheckError(
            f"MODEL.NUM_CLASSES is {cfg.MODEL.NUM_CLASSES} but {subset.title} has {subset.num_classes} classes "
            f"(background included); set MODEL.NUM_CLASSES {subset.num_classes} or change DATASETS.SUBSET."
        )
    prototypes = cfg.MODEL.MPQG.NUM_PROTOTYPES
    if prototypes not in (0, subset.num_prototypes):
        allowed = " or ".join(str(number) for number in sorted({0, subset.num_prototypes}))
        raise CheckError(
            f"MODEL.MPQG.NUM_PROTOTYPES is {prototypes} but {subset.title} allows {allowed}; set it to "
            f"{subset.num_prototypes}, or to 0 to use no prototypes."
        )


def _check_widths(cfg: CfgNode) -> None:
    model = cfg.MODEL
    widths = [
        ("MODEL.HIDDEN_DIM", model.HIDDEN_DIM, f"MODEL.{part}.NUM_HEADS", model[part].NUM_HEADS)
        for part in ("PIXEL_DECODER", "DECODER", "SKA", "MPQG")
    ]
    if model.BACKBONE.NAME == "build_swin_backbone":
        widths += [
            (f"MODEL.SWIN.EMBED_DIM x {2**stage}", model.SWIN.EMBED_DIM * 2**stage, "MODEL.SWIN.NUM_HEADS", heads)
            for stage, heads in enumerate(model.SWIN.NUM_HEADS)
        ]
    for key, width, heads_key, heads in widths:
        if width % heads:
            raise CheckError(f"{key} is {width}, which {heads} heads ({heads_key}) do not divide; change one.")


def _check_weights(cfg: CfgNode, eval_only: bool, resume: bool) -> None:
    model = cfg.MODEL
    if eval_only and not model.WEIGHTS and not resume:
        raise CheckError(
            "--eval-only needs a model: add MODEL.WEIGHTS FILE.pth, or --resume for the last checkpoint."
        )
    if model.AUDIO.FREEZE and not (model.AUDIO.WEIGHTS or model.WEIGHTS or eval_only or resume):
        raise CheckError(
            "MODEL.AUDIO.FREEZE would freeze an audio encoder with random weights; set MODEL.AUDIO.WEIGHTS to the "
            "VGGish checkpoint, or MODEL.AUDIO.FREEZE False to train it from scratch."
        )


def _check_amp(cfg: CfgNode) -> None:
    amp = cfg.SOLVER.AMP
    if not amp.ENABLED or cfg.MODEL.DEVICE != "cpu":
        return
    if amp.DTYPE != "bf16":
        _LOGGER.warning(
            "SOLVER.AMP is for CUDA; training in full precision on the CPU. Where the CPU supports bfloat16 "
            "itself, SOLVER.AMP.DTYPE bf16 may be faster."
        )
        amp.ENABLED = False


def _check_batch(cfg: CfgNode) -> None:
    world = comm.get_world_size()
    batch = cfg.SOLVER.IMS_PER_BATCH
    if batch % world:
        raise CheckError(f"SOLVER.IMS_PER_BATCH is {batch}; it must be a multiple of the {world} processes.")
    if cfg.MODEL.DEVICE != "cpu" and not torch.cuda.is_available():
        raise CheckError(
            f"MODEL.DEVICE is '{cfg.MODEL.DEVICE}' but this machine has no CUDA device; use --num-gpus 0."
        )
