"""Flow computed while training loads clips (``INPUT.FLOW.ONLINE``): a step before the mapper, which only reads."""

from collections.abc import Mapping, Sequence

import numpy as np
from detectron2.config import CfgNode, configurable

from ska_vct.data.clip_mapper import ClipMapper
from ska_vct.data.flow.extract.clip import FlowRequest, compute_and_keep
from ska_vct.data.flow.methods.registry import CLASSICAL
from ska_vct.data.flow.store import FlowError, has_flow
from ska_vct.structures.clip import ClipError
from ska_vct.utils.errors import InputError


class OnlineFlowMapper(ClipMapper):
    """A mapper that first computes a clip's flow where it is missing, and keeps it for later epochs."""

    @configurable
    def __init__(self, *, request: FlowRequest, **options):
        """
        Args:
            request: what flow is computed, by one of the classical methods.
            options: see :class:`ClipMapper`.
        """
        super().__init__(**options)
        self.request = request

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True, donors: Sequence[Mapping] = ()) -> dict:
        request = FlowRequest(method=cfg.INPUT.FLOW.METHOD, series=cfg.INPUT.FLOW.SERIES)
        return super().from_config(cfg, is_train=is_train, donors=donors) | {"request": request}

    def __call__(self, record: Mapping, *, rng: np.random.Generator | None = None) -> dict:
        """As :meth:`ClipMapper.__call__`.

        Raises:
            ClipError: a file is missing or unusable, or the flow cannot be computed or written.
        """
        try:
            self.prepare(record)
        except FlowError as error:
            raise ClipError(f"Clip '{record['clip_id']}': {error}") from None
        return super().__call__(record, rng=rng)

    def load_flow(self, record: Mapping) -> np.ndarray:
        """As :meth:`ClipMapper.load_flow`.

        Raises:
            FlowError: the flow cannot be computed, written or read.
        """
        self.prepare(record)
        return super().load_flow(record)

    def prepare(self, record: Mapping) -> None:
        """Write the clip's flow where the record says, unless it is there.

        Raises:
            FlowError: it cannot be computed or written.
        """
        if not has_flow(record["flow_path"]):
            compute_and_keep(record, self.request, CLASSICAL[self.request.method]())


def build_mapper(cfg: CfgNode, *, is_train: bool, donors: Sequence[Mapping] = ()) -> ClipMapper:
    """The mapper of a configuration; one that computes missing flow where ``INPUT.FLOW.ONLINE`` asks for it.

    Args:
        cfg: the configuration.
        is_train, donors: see :class:`ClipMapper`.

    Raises:
        InputError: ``INPUT.FLOW.METHOD`` is not a classical method, or a key of the mapper has a wrong value.
    """
    method = cfg.INPUT.FLOW.METHOD
    if method not in CLASSICAL:
        raise InputError(f"INPUT.FLOW.METHOD is '{method}'; choose {' or '.join(CLASSICAL)}.")
    kind = OnlineFlowMapper if cfg.INPUT.FLOW.ONLINE and cfg.MODEL.SKA.ENABLED else ClipMapper
    return kind(cfg, is_train=is_train, donors=donors)
