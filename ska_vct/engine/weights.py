"""Loads the weights that the config names, of the whole model and of its parts (docs/weights.md)."""

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from ska_vct.checkpoint.checkpointer import StrictCheckpointer
from ska_vct.checkpoint.convert.formats import AUDIO, BACKBONE, PRE_MASK
from ska_vct.checkpoint.fetch.resolve import resolve
from ska_vct.checkpoint.files import CheckpointError, load_state_dict
from ska_vct.checkpoint.loading import LoadOptions, LoadReport, load_into
from ska_vct.utils.errors import InputError


def load_options(cfg: CfgNode, *, inference: bool) -> LoadOptions:
    """What may differ between a file of weights and the model.

    Args:
        cfg: the config.
        inference: see :class:`LoadOptions`.
    """
    return LoadOptions(resize=cfg.MODEL.RESIZE_ON_LOAD, skip=tuple(cfg.MODEL.WEIGHTS_SKIP), inference=inference)


def load_part_weights(cfg: CfgNode, model: nn.Module, whole: LoadReport | None = None) -> list[LoadReport]:
    """Load what ``MODEL.BACKBONE_WEIGHTS``, ``PRE_MASK.WEIGHTS`` and ``AUDIO.WEIGHTS`` name; fetch it if need be.

    Args:
        cfg: the config.
        model: an ``SKAVCT``.
        whole: report of ``MODEL.WEIGHTS``, if that was loaded; parts it brought are left alone.

    Raises:
        FileNotFoundError: a file is missing.
        DownloadError: a file cannot be fetched.
        CheckpointError: a file does not hold the weights of that part, with a table of its entries.
    """
    node = cfg.MODEL
    parts = [("MODEL.BACKBONE_WEIGHTS", node.BACKBONE_WEIGHTS, BACKBONE)]
    if node.PRE_MASK.ENABLED:
        parts.append(("MODEL.PRE_MASK.WEIGHTS", node.PRE_MASK.WEIGHTS, PRE_MASK))
    parts.append(("MODEL.AUDIO.WEIGHTS", node.AUDIO.WEIGHTS, AUDIO))
    options = LoadOptions(resize=node.RESIZE_ON_LOAD)
    reports = []
    for key, source, part in parts:
        brought = whole is not None and any(name.startswith(part) for name in whole.loaded)
        if source and not brought:
            state = load_state_dict(resolve(source, key=key))
            reports.append(load_into(model, state, path=source, key=key, part=part, options=options))
    brought = [name for report in [*reports, *([whole] if whole else [])] for name in report.loaded]
    if whole is not None and node.AUDIO.FREEZE and not any(name.startswith(AUDIO) for name in brought):
        raise CheckpointError(
            f"MODEL.WEIGHTS '{whole.path}' ({whole.title}) holds no weights of the audio encoder, which "
            "MODEL.AUDIO.FREEZE would keep random; set MODEL.AUDIO.WEIGHTS, e.g. to ska_vct://vggish."
        )
    return reports


def build_trained_model(cfg: CfgNode) -> nn.Module:
    """The configuration's model with the weights of ``MODEL.WEIGHTS``, ready for inference.

    Raises:
        InputError: ``MODEL.WEIGHTS`` is empty.
        CheckpointError: it does not fit the model.
        FileNotFoundError: there is no such file.
    """
    if not cfg.MODEL.WEIGHTS:
        raise InputError(
            "MODEL.WEIGHTS is empty; name a checkpoint, or predictions would come from random weights."
        )
    model = build_model(cfg)
    StrictCheckpointer(model, options=load_options(cfg, inference=True)).load(cfg.MODEL.WEIGHTS)
    return model.eval()
