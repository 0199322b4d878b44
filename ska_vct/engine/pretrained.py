"""Trained models by the name of a file, a folder or a repository; their configuration comes with them."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from torch import nn

from ska_vct.checkpoint.fetch.resolve import resolve
from ska_vct.checkpoint.writing import read_config
from ska_vct.modeling.hub import CONFIG_NAME, WEIGHTS_NAME, is_hub_id, is_pretrained_folder, pretrained_folder
from ska_vct.utils.errors import ConfigError

from .setup import load_cfg
from .weights import build_trained_model


def load_model(
    weights: str | os.PathLike,
    config: str | os.PathLike | None = None,
    device: str | torch.device | None = None,
    *,
    overrides: Sequence[str] = (),
) -> nn.Module:
    """A trained model, ready for inference.

    Args:
        weights, config, device, overrides: see :func:`find_cfg`.

    Returns:
        the model in inference mode.

    Raises:
        FileNotFoundError, DownloadError, HubError: there are no such weights.
        ConfigError: no config is named and the weights hold none, or it is wrong.
        CheckpointError: the weights do not fit the config.
    """
    return build_trained_model(find_cfg(weights, config, overrides, device=device))


def find_cfg(
    weights: str | os.PathLike,
    config: str | os.PathLike | None = None,
    overrides: Sequence[str] = (),
    *,
    device: str | torch.device | None = None,
) -> CfgNode:
    """The configuration of a trained model, with ``MODEL.WEIGHTS`` set.

    Modules that a checkpoint's own config names (``IMPORTS``) are not imported: a checkpoint is data.

    Args:
        weights: a checkpoint; a folder of ``save_pretrained``; ``ORG/NAME`` on Hugging Face's hub; or an address,
            see :func:`ska_vct.checkpoint.fetch.resolve.resolve`.
        config: file or name of its config; None for the one stored with the weights.
        overrides: KEY, VALUE, ... that change it.
        device: for ``MODEL.DEVICE``; None for a GPU if there is one.

    Raises:
        FileNotFoundError, DownloadError, HubError: there are no such weights.
        ConfigError: no config is named and the weights hold none, or it is wrong.
    """
    name = os.fspath(weights)
    folder = pretrained_folder(name) if is_pretrained_folder(name) or is_hub_id(name) else None
    path = str(folder / WEIGHTS_NAME) if folder else name
    device = str(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    changes = ["MODEL.WEIGHTS", path, "MODEL.DEVICE", device, *overrides]
    if config:
        return load_cfg(config, changes)
    if folder:
        return load_cfg(folder / CONFIG_NAME, changes, trusted=False)
    text = read_config(resolve(name, key="the weights"))
    if text is None:
        raise ConfigError(
            f"'{name}' holds no config: other programs and older versions store none. Name it: config=... in "
            "Python, --config FILE on the command line."
        )
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "config.yaml"
        file.write_text(text, encoding="utf-8")
        return load_cfg(file, changes, trusted=False)
