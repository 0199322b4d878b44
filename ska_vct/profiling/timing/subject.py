"""Base class of benchmark subjects: options, rows, construction of a row's work, and conclusions."""

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
    """Something to benchmark; subclasses implement the methods below.

    Attributes:
        name: name of the subject.
    """

    name = ""

    def options(self, *, device: str, **options: Any) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """Variants to measure for each config, as pairs of a label for the row's name and options for ``build``.

        Args:
            device: ``cpu`` or ``cuda``.
            options: the subject's own, each with a default.
        """
        return [("", {})]

    def build(self, case: Case) -> Work:
        """Create the work of a row; runs in the measuring process."""
        raise NotImplementedError

    def conclude(self, measurements: Sequence[Measurement]) -> list[str]:
        """Conclusions from the figures, one sentence each."""
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
            config_files: one or more configs.
            overrides: KEY, VALUE, ... applied to each of them.
            vary: a key and its values.
            device: ``cpu``, ``cuda`` or ``auto``.
            threads, warmup: see :class:`Case`.
            options: arguments of :meth:`options`.

        Raises:
            BenchmarkError, ConfigError: the benchmark cannot be run as requested.
        """
        key, values = vary or ("", ())
        if key and not values:
            raise BenchmarkError(f"--vary {key} has no values; write --vary KEY VALUE [VALUE ...].")
        device = chosen_device(device)
        cases = []
        for config in config_files:
            for value in values or [None]:
                changes = [*overrides, *([key, value] if value is not None else [])]
                # Report invalid configs before anything is measured.
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
    """``cpu`` or ``cuda``; ``auto`` selects CUDA if available."""
    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def short_name(config: str) -> str:
    """Folder and stem of a config file: ``s4/swin_b_384``."""
    path = Path(config)
    return f"{path.parent.name}/{path.stem}" if path.parent.name else path.stem


def case_cfg(case: Case) -> CfgNode:
    """The case's config with its device set; needs no weights, data or output folder."""
    cfg = load_cfg(case.config_file, case.opts)
    cfg.MODEL.DEVICE = case.device
    return cfg


def autocast(device: str, precision: str):
    """Context of mixed precision: ``off``, ``bf16`` or ``fp16``."""
    if precision == "off":
        return nullcontext()
    if precision not in HALF_TYPES:
        raise BenchmarkError(f"Unknown mixed precision '{precision}'; choose off, {' or '.join(HALF_TYPES)}.")
    return torch.autocast(device_type=device, dtype=HALF_TYPES[precision])


def precision_label(precision: str, all_precisions: Sequence[str]) -> str:
    """Label of a precision in a row's name; empty if there is only ``off``."""
    return "" if list(all_precisions) == ["off"] else {"off": "fp32"}.get(precision, precision)
