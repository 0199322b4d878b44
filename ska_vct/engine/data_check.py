"""Checks the clips of a run before it starts, so that no bad file stops it in the middle of an epoch."""

import logging
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils import comm

from ska_vct.data.avsbench.folders import DatasetError
from ska_vct.data.validation.check import check_records
from ska_vct.data.validation.clips import Needs
from ska_vct.data.validation.findings import errors_of, summaries

_LOGGER = logging.getLogger(__name__)
SHOWN = 3


def needs_of(cfg: CfgNode) -> Needs:
    """What a configuration reads of a clip."""
    uses_flow = cfg.MODEL.SKA.ENABLED
    may_lack_flow = uses_flow and not cfg.INPUT.FLOW.ONLINE
    return Needs(
        audio_source=cfg.INPUT.AUDIO.SOURCE,
        flow=may_lack_flow and cfg.INPUT.FLOW.MISSING == "error",
        read_flow=uses_flow,
        zero_flow=may_lack_flow and cfg.INPUT.FLOW.MISSING == "zero",
        series=cfg.INPUT.FLOW.SERIES if uses_flow else 0,
        input_side=min(cfg.INPUT.SIZE),
    )


def check_datasets(cfg: CfgNode, names: Sequence[str]) -> None:
    """Check what the run will read of some registered datasets, for about ``DATASETS.CHECK_SECONDS``.

    The first rank checks, the others wait.

    Args:
        cfg: the config.
        names: datasets.

    Raises:
        DatasetError: a dataset is incomplete or a file of it cannot be used; the first few are named.
    """
    if comm.is_main_process():
        records = [record for name in dict.fromkeys(names) for record in DatasetCatalog.get(name)]
        findings, coverage = check_records(records, needs_of(cfg), seconds=cfg.DATASETS.CHECK_SECONDS)
        for level, kind, heading in summaries(findings, len(records)):
            example = next(f.text for f in findings if (f.level, f.kind) == (level, kind))
            _LOGGER.warning(f"Data check, {heading}. {example}")
        errors = errors_of(findings)
        if errors:
            clips = {finding.clip_id for finding in errors}
            shown = " ".join(finding.text for finding in errors[:SHOWN])
            raise DatasetError(
                f"{len(clips)} of {len(records)} clips cannot be used: {shown} 'python datasets/check.py "
                f"--config-file <config> --root {cfg.DATASETS.ROOT} --fix-list fix.csv' names all; --no-check "
                "starts anyway."
            )
        if coverage.contents < coverage.clips:
            _LOGGER.info(f"Data check: read {coverage}; datasets/check.py reads all (DATASETS.CHECK_SECONDS)")
        else:
            _LOGGER.info(f"Data check: read {coverage}")
    comm.synchronize()
