"""From files on disk to clips: readers, sound, flow, augmentation, mapper."""

from ska_vct.data.avsbench.folders import DatasetError
from ska_vct.data.avsbench.records import load_records, register_subset
from ska_vct.data.avsbench.subsets import SPLITS, SUBSETS, dataset_name, get_subset
from ska_vct.data.clip_mapper import ClipMapper

__all__ = [
    "SPLITS",
    "SUBSETS",
    "ClipMapper",
    "DatasetError",
    "dataset_name",
    "get_subset",
    "load_records",
    "register_subset",
]
