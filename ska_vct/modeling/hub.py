"""Models as folders, in Hugging Face Hub's manner: ``model.safetensors``, ``config.yaml`` and a model card."""

import os
import re
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors

from ska_vct.config_files import cfg_from_text
from ska_vct.config_values import check_values
from ska_vct.utils.errors import InputError, MissingFileError, SkaVctError
from ska_vct.utils.files import atomic_write
from ska_vct.utils.folders import make_folder

WEIGHTS_NAME, CONFIG_NAME, CARD_NAME = "model.safetensors", "config.yaml", "README.md"
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_FILE_ENDINGS = {".pth", ".pt", ".bin", ".ckpt", ".pkl", ".safetensors"}
_CARD = """---
library_name: ska_vct
tags: [audio-visual-segmentation]
---
# {name}

An audio-visual segmentation model of SKA-VCT. `config.yaml` holds its configuration.

```python
from ska_vct import Predictor

predictor = Predictor.from_pretrained("{name}")
result = predictor(frames, audio=(samples, sample_rate))  # frames: uint8 (T, H, W, 3), one per second
```
"""


Model = TypeVar("Model", bound="PretrainedMixin")


class HubError(SkaVctError, OSError):
    """A model cannot be fetched from Hugging Face's hub."""


class PretrainedMixin:
    """``from_pretrained`` and ``save_pretrained`` for a model that is built from a config.

    A class that uses it is an ``nn.Module`` whose constructor takes a ``CfgNode`` (``configurable``).

    Attributes:
        config_text: the model's configuration as YAML.
    """

    config_text: str = ""

    def save_pretrained(self, folder: str | os.PathLike) -> Path:
        """Write the weights, the configuration and, unless there is one, a model card to a folder.

        Args:
            folder: created if it does not exist; files of the same names are replaced.

        Returns:
            the folder.

        Raises:
            InputError: the model was not built from a configuration.
            OSError: the folder cannot be written.
        """
        if not self.config_text:
            raise InputError(
                "The model was not built from a config, which its folder must hold; build it from one."
            )
        folder = make_folder(Path(folder))
        state = {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, value in self.state_dict().items()  # type: ignore[attr-defined]
        }
        with atomic_write(folder / WEIGHTS_NAME) as file:
            file.write(safetensors.save(state, metadata={"format": "pt"}))
        with atomic_write(folder / CONFIG_NAME, "w") as file:
            file.write(self.config_text)
        if not (folder / CARD_NAME).exists():
            with atomic_write(folder / CARD_NAME, "w") as file:
                file.write(_CARD.format(name=folder.resolve().name))
        return folder

    @classmethod
    def from_pretrained(
        cls: type[Model],
        name: str | os.PathLike,
        *,
        device: str | torch.device | None = None,
        revision: str | None = None,
    ) -> Model:
        """A model of a folder that :meth:`save_pretrained` has written, or of such a repository on the hub.

        Args:
            name: the folder, or ``ORG/NAME`` on Hugging Face's hub; a folder is read without network access.
            device: where the model is put; None for a GPU if there is one.
            revision: branch, tag or commit on the hub.

        Returns:
            the model in inference mode.

        Raises:
            FileNotFoundError: there is no such folder, or a file is missing in it.
            HubError: the repository cannot be fetched.
            ConfigError: its configuration is not of this version.
            InputError: the weights do not fit the configuration.
        """
        folder = pretrained_folder(name, revision=revision)
        cfg = cfg_from_text((folder / CONFIG_NAME).read_text(encoding="utf-8"), where=str(folder / CONFIG_NAME))
        check_values(cfg)
        cfg.MODEL.DEVICE = str(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        cfg.MODEL.COMPILE = False
        constructor: Any = cls
        model = constructor(cfg)
        try:
            state = safetensors.load_file(folder / WEIGHTS_NAME)
            model.load_state_dict(state)
        except (SafetensorError, RuntimeError) as error:
            raise InputError(
                f"{folder / WEIGHTS_NAME} does not hold the weights of the model that {CONFIG_NAME} beside it "
                f"describes: {' '.join(str(error).split())}"
            ) from None
        return model.to(cfg.MODEL.DEVICE).eval()


def is_pretrained_folder(path: str | os.PathLike) -> bool:
    """Whether ``path`` is a folder with the files of :meth:`PretrainedMixin.save_pretrained`."""
    return all((Path(path) / name).is_file() for name in (WEIGHTS_NAME, CONFIG_NAME))


def is_hub_id(name: str) -> bool:
    """Whether ``name`` can only be ``ORG/NAME`` on the hub: it is not called as a file is, and is not here."""
    path = Path(name)
    looks_so = bool(_HUB_ID.fullmatch(name)) and path.suffix not in _FILE_ENDINGS
    return looks_so and not path.exists() and not path.parent.is_dir()


def pretrained_folder(name: str | os.PathLike, *, revision: str | None = None) -> Path:
    """The folder of a pretrained model; a repository of the hub is fetched once.

    Raises:
        FileNotFoundError, HubError: see :meth:`PretrainedMixin.from_pretrained`.
    """
    if is_pretrained_folder(name):
        return Path(name)
    if not is_hub_id(os.fspath(name)):
        raise MissingFileError(
            f"'{name}' is not a folder with {WEIGHTS_NAME} and {CONFIG_NAME}, as save_pretrained writes them."
        )
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        found = Path(
            huggingface_hub.snapshot_download(
                os.fspath(name), revision=revision, allow_patterns=[WEIGHTS_NAME, CONFIG_NAME]
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise HubError(
            f"'{name}' is not a folder here and cannot be fetched from Hugging Face's hub "
            f"({' '.join(str(error).split())}); check the name and the connection."
        ) from None
    if not is_pretrained_folder(found):
        raise MissingFileError(f"Repository '{name}' of the hub lacks {WEIGHTS_NAME} or {CONFIG_NAME}.")
    return found
