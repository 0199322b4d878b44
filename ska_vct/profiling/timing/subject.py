"""The form of a subject: its options, its rows, how one row's work is built, and what follows from the figures."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode

from ska_vct.engine.setup import load_cfg

from .turns import Measurement
from .work import BenchmarkError, Case, Work

HALF_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Subject:
    """Something to benchmark; subclasses give what is documented here.

    Attributes:
        name: of the subject.
    """

    name = ""

    def options(self, *, device: str, **options: Any) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """Variants to measure for each config: what the row's name says of it, and options for ``build``.

        Args:
            device: ``cpu`` or ``cuda``.
            options: the subject's own, each with a default.
        """
        return [("", {})]

    def build(self, case: Case) -> Work:
        """Make a row's work, in the process that will measure it."""
        raise NotImplementedError

    def conclude(self, measurements: Sequence[Measurement]) -> list[str]:
        """Sentences that the figures allow."""
        return []

    def cases(
        self,
        config_files: Sequence[str],
        overrides: Sequence[str] = (),
        *,
        vary: tuple[str, Sequence[str]] | None = None,
        device: str = "auto",
        threads: int = 0,
        warmup: int = 1,
        **options: Any,
    ) -> list[Case]:
        """A row for each config, value of ``vary`` and variant.

        Args:
            config_files: one or several configs.
            overrides: KEY, VALUE, ... for all of them.
            vary: a key and its values.
            device: ``cpu``, ``cuda`` or ``auto``.
            threads, warmup: see :class:`Case`.
            options: of :meth:`options`.

        Raises:
            BenchmarkError, ConfigError: something cannot be measured as asked for.
        """
        key, values = vary or ("", ())
        if key and not values:
            raise BenchmarkError(f"--vary {key} names no value; write --vary KEY VALUE [VALUE ...].")
        device = chosen_device(device)
        cases = []
        for config in config_files:
            for value in values or [None]:
                changes = [*overrides, *([key, value] if value is not None else [])]
                # What is wrong with a config is said before anything is measured.
                load_cfg(config, changes)
                for label, chosen in self.options(device=device, **options):
                    words = [
                        short_name(config) if len(config_files) > 1 else "",
                        value and f"{key} {value}",
                        label,
                    ]
                    cases.append(
                        Case(
                            subject=self.name,
                            name=", ".join(filter(None, words)) or short_name(config),
                            config_file=config,
                            opts=tuple(changes),
                            options=dict(chosen),
                            device=device,
                            threads=threads,
                            warmup=warmup,
                        )
                    )
        return cases


def chosen_device(name: str) -> str:
    """``cpu`` or ``cuda``, of ``auto`` what there is."""
    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def short_name(config: str) -> str:
    """Folder and stem of a config file: ``s4/swin_b_384``."""
    path = Path(config)
    return f"{path.parent.name}/{path.stem}" if path.parent.name else path.stem


def case_cfg(case: Case) -> CfgNode:
    """The case's configuration on its device; no weights, data or output folder are looked for."""
    cfg = load_cfg(case.config_file, case.opts)
    cfg.MODEL.DEVICE = case.device
    return cfg


def autocast(device: str, precision: str):
    """Mixed precision: ``off``, ``bf16`` or ``fp16``."""
    if precision == "off":
        return nullcontext()
    if precision not in HALF_TYPES:
        raise BenchmarkError(f"There is no mixed precision '{precision}'; choose off, {' or '.join(HALF_TYPES)}.")
    return torch.autocast(device_type=device, dtype=HALF_TYPES[precision])


def precision_label(precision: str, all_precisions: Sequence[str]) -> str:
    """What the row's name says of its precision."""
    return "" if list(all_precisions) == ["off"] else {"off": "fp32"}.get(precision, precision)
