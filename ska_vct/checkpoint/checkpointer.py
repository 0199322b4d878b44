"""Strict checkpointing: loading fails on a mismatch, saving is atomic, files are read as data, never as code."""

import os
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from ska_vct import __version__
from ska_vct.utils.files import atomic_write
from ska_vct.utils.ranks import on_first_rank

from .fetch.resolve import resolve
from .files import METADATA, CheckpointError, clean_state_dict, find_state_dict, load_file, load_state_dict
from .loading import EXACTLY, LoadOptions, LoadReport, load_into, load_strictly
from .seal import save_sealed
from .series import LAST_NAME, Newest, find_newest, has_checkpoint
from .writing import CONFIG, lacks_of

__all__ = ["CheckpointError", "StrictCheckpointer", "load_file", "load_state_dict", "load_strictly"]


class StrictCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, strict on loading and atomic on saving; reads every supported checkpoint format.

    Attributes:
        report: of the last load; None if nothing was loaded.
        resumed: whether the last :meth:`resume_or_load` has resumed.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        options: LoadOptions = EXACTLY,
        config: str = "",
        **checkpointables: Any,
    ):
        """
        Args:
            model: the model.
            save_dir: folder of the checkpoints.
            options: which differences between a named file and the model are allowed; a resumed checkpoint must
                fit exactly.
            config: the model's configuration as YAML, stored in every checkpoint; empty to store none.
            checkpointables: other objects to save, as in Detectron2.
        """
        super().__init__(model, save_dir, **checkpointables)
        self.options = options
        self._config = config
        self.report: LoadReport | None = None
        self.resumed = False

    def save(self, name: str, *, tag_last: bool = True, **kwargs: Any) -> None:
        """Write ``<save_dir>/<name>.pth``.

        Args:
            name: file name without its ending.
            tag_last: whether ``--resume`` continues from this file.
            kwargs: further plain data to store.

        Raises:
            FileSystemError: it cannot be written, e.g. because the disk is full; what was there is as it was.
        """
        if not self.save_dir:
            return
        # On all ranks, since the states may be gathered from them.
        states = {key: item.state_dict() for key, item in self.checkpointables.items()}
        if not self.save_to_disk:
            return
        data = {"model": self.model.state_dict()}
        if self._config:
            data[METADATA] = {"format": "ska_vct", "version": __version__, CONFIG: self._config}
        basename = f"{name}.pth"
        save_sealed(os.path.join(self.save_dir, basename), data | states | kwargs)
        self.logger.info(f"Saved {os.path.join(self.save_dir, basename)}")
        if tag_last:
            self.tag_last_checkpoint(basename)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Make ``--resume`` continue from this file of ``save_dir``."""
        with atomic_write(os.path.join(self.save_dir, LAST_NAME), "w") as file:
            file.write(last_filename_basename)

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Resume from the newest whole checkpoint in the folder if ``resume`` is set, else load ``path``.

        What is damaged is named and passed over.

        Raises:
            FileNotFoundError, CheckpointError, DownloadError: see :meth:`load`.
        """
        newest = on_first_rank(self._find_newest) if resume else None
        self.resumed = newest is not None
        if newest is None:
            return super().resume_or_load(path, resume=False)
        for _, reason in newest.unusable:
            self.logger.warning(reason)
        options, self.options = self.options, LoadOptions(inference=self.options.inference)
        try:
            return self.load(newest.path)
        finally:
            self.options = options

    def has_checkpoint(self) -> bool:
        """Whether the folder holds a checkpoint to resume from, whatever ``last_checkpoint`` says."""
        return has_checkpoint(self.save_dir)

    def _find_newest(self) -> Newest | None:
        return find_newest(self.save_dir, needs=tuple(self.checkpointables))

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load weights, and the state of ``checkpointables`` (default: of all), from ``path``.

        Args:
            path: a file or an address, see :func:`ska_vct.checkpoint.fetch.resolve.resolve`.
            checkpointables: names.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: it cannot be read or does not fit.
            DownloadError: it cannot be fetched.
        """
        if not path:
            self.logger.info("No checkpoint to load: starting from the initial weights")
            return {}
        self._path = path
        return super().load(str(resolve(path, key="MODEL.WEIGHTS")), checkpointables=checkpointables)

    def _load_file(self, filename: str) -> dict[str, Any]:
        content = load_file(filename)
        return content if "model" in content else {"model": find_state_dict(content)}

    def _load_model(self, checkpoint: dict[str, Any]) -> None:
        state = clean_state_dict(checkpoint.pop("model"), path=self._path)
        lacks = lacks_of(checkpoint)
        self.report = load_into(self.model, state, path=self._path, lacks=lacks, options=self.options)
