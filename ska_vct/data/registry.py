"""Registry of datasets: facts by name and, for datasets not read through the templates of their facts, the reader.

``register_dataset`` adds your own datasets (docs/extending.md); AVSBench's subsets are built in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ska_vct.data.avsbench.subsets import SUBSETS
from ska_vct.data.facts import DatasetFacts
from ska_vct.utils.errors import InputError, UnknownNameError


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Options of a reader besides the split; paths as in the config.

    Attributes:
        root: folder of the datasets, ``DATASETS.ROOT``.
        prefer_rebuilt: use previously resized frames where they exist.
        flow_root: folder of the flow files; empty for ``{root}/flow``.
        pre_masks: also list the images of class-agnostic segments.
        pre_mask_root: folder of these images; empty for the published one.
        prepared: output folder of ``datasets/prepare.py``; empty for ``{root}/prepared``.
        find_flow: look in both ``{root}/flow`` and ``{prepared}/flow`` if ``flow_root`` is one of them.
        leave_out: CSV file with a column ``clip`` of clips to exclude; empty for none.
    """

    root: str
    prefer_rebuilt: bool = True
    flow_root: str = ""
    pre_masks: bool = False
    pre_mask_root: str = ""
    prepared: str = ""
    find_flow: bool = True
    leave_out: str = ""

    def __post_init__(self):
        if not self.flow_root:
            object.__setattr__(self, "flow_root", f"{self.root}/flow")


# Reads one split: (split, options) -> records, see ska_vct/data/catalog.py.
Reader = Callable[[str, ReadOptions], Sequence[dict]]


@dataclass
class _Datasets:
    facts: dict[str, DatasetFacts] = field(default_factory=lambda: dict(SUBSETS))
    readers: dict[str, Reader] = field(default_factory=dict)


_DATASETS = _Datasets()


def register_dataset(facts: DatasetFacts, reader: Reader | None = None) -> DatasetFacts:
    """Register a dataset for use in ``DATASETS.SUBSET``, ``TRAIN``, ``VAL`` and ``TEST``.

    Args:
        facts: facts of the dataset; replaces a registered dataset of the same name, except AVSBench's subsets.
        reader: returns the records of a split; None if the templates of the facts locate the files.

    Returns:
        ``facts``.

    Raises:
        InputError: the name belongs to AVSBench or is not an identifier, or there are no classes.
    """
    if facts.name in SUBSETS:
        raise InputError(f"'{facts.name}' is a subset of AVSBench; give the dataset another name.")
    if not facts.name.isidentifier():
        raise InputError(
            f"A dataset cannot be named '{facts.name}'; use letters, digits and underscores, since flow "
            "folders and split names are derived from it."
        )
    if len(facts.classes) < 2:
        raise InputError(
            f"Dataset '{facts.name}' has {len(facts.classes)} classes; list background and at least one other."
        )
    _DATASETS.facts[facts.name] = facts
    _DATASETS.readers.pop(facts.name, None)
    if reader is not None:
        _DATASETS.readers[facts.name] = reader
    return facts


def get_facts(name: str) -> DatasetFacts:
    """Look a dataset up by name.

    Raises:
        UnknownNameError: the dataset does not exist; the message lists all names.
    """
    try:
        return _DATASETS.facts[name]
    except KeyError:
        raise UnknownNameError(
            f"Dataset '{name}' does not exist; choose one of {', '.join(_DATASETS.facts)}."
        ) from None


def get_reader(name: str) -> Reader | None:
    """The reader of a dataset; None if the templates of its facts locate the files."""
    return _DATASETS.readers.get(name)


def dataset_names() -> tuple[str, ...]:
    """Names of all registered datasets, AVSBench's subsets first."""
    return tuple(_DATASETS.facts)
