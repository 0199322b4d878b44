"""The endless stream of training clips; what a clip looks like in it depends on its place alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, build_detection_train_loader
from detectron2.data.samplers import TrainingSampler
from torch.utils.data import Dataset

from .resume.stopping import ParentsWorker


class PlaceSampler(TrainingSampler):
    """Detectron2's endless seeded shuffle, which can begin anywhere and says where in it a clip stands.

    Yields place * size + index: the place counts the clips of all ranks from 0, the index is the clip's.
    """

    def __init__(self, size: int, *, seed: int, start: int = 0):
        """
        Args:
            size: number of clips.
            seed: of the shuffle.
            start: first place.
        """
        super().__init__(size, seed=seed)
        self._start = start

    def __iter__(self) -> Iterator[int]:
        clips = islice(enumerate(self._infinite_indices()), self._start + self._rank, None, self._world_size)
        yield from (place * self._size + index for place, index in clips)


class PlacedClips(Dataset):
    """Clips by what :class:`PlaceSampler` yields; all random draws of a clip are seeded by its place.

    So they depend neither on the worker or rank that loads a clip nor on the clips that were loaded before it.
    """

    def __init__(self, records: Sequence[Mapping], mapper: Callable[..., dict], *, seed: int):
        """
        Args:
            records: of the clips.
            mapper: record and ``rng`` -> clip.
            seed: of the draws.
        """
        # Shared by the workers instead of copied into each.
        self._records = DatasetFromList(list(records), copy=False)
        self._mapper = mapper
        self._seed = seed

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, number: int) -> dict:
        place, index = divmod(number, len(self._records))
        draws = np.random.SeedSequence((self._seed, place))
        clip = self._mapper(self._records[index], rng=np.random.default_rng(draws))
        # For what the model draws; half of 64 bits, as PyTorch's seeds have a sign.
        return clip | {"noise_seed": int(draws.generate_state(2, np.uint64)[1] >> np.uint64(1))}


def build_stream(
    cfg: CfgNode, records: Sequence[Mapping], mapper: Callable[..., dict], *, seed: int, start: int
) -> Any:
    """Endless batches of ``SOLVER.IMS_PER_BATCH / ranks`` clips.

    Args:
        cfg: the config.
        records: of the clips.
        mapper: record and ``rng`` -> clip.
        seed: of the shuffle and of all draws.
        start: how many clips all ranks together have had.
    """
    return build_detection_train_loader(
        PlacedClips(records, ParentsWorker(mapper), seed=seed),
        mapper=None,
        sampler=PlaceSampler(len(records), seed=seed, start=start),
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        aspect_ratio_grouping=False,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        # A generator of its own: making workers must not draw from that of the training.
        seed=seed,
    )
