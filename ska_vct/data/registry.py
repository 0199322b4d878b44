"""Datasets by name: facts, and where they are not read by their facts' templates, the reader.

``register_dataset`` is the door for datasets of your own (docs/extending.md); AVSBench's subsets are known.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ska_vct.data.avsbench.subsets import SUBSETS
from ska_vct.data.facts import DatasetFacts
from ska_vct.utils.errors import InputError, UnknownNameError


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a reader is told besides the split; paths are those of the configuration.

    Attributes:
        root: folder of the datasets, ``DATASETS.ROOT``.
        prefer_rebuilt: use frames that were resized before, where they exist.
        flow_root: folder of the flow files; empty for ``{root}/flow``.
        pre_masks: also list the images of class-agnostic segments.
        pre_mask_root: their folder; empty for the published one.
        prepared: folder that ``datasets/prepare.py`` has filled; empty for ``{root}/prepared``.
        leave_out: csv file with a column ``clip``: clips that are not listed; empty for none.
    """

    root: str
    prefer_rebuilt: bool = True
    flow_root: str = ""
    pre_masks: bool = False
    pre_mask_root: str = ""
    prepared: str = ""
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
    """Make a dataset known, so that ``DATASETS.SUBSET``, ``TRAIN``, ``VAL`` and ``TEST`` can name it.

    Args:
        facts: of the dataset. The name of a dataset registered before replaces that one; AVSBench's are taken.
        reader: gives the records of a split; None where the facts' templates say where the files are.

    Returns:
        ``facts``.

    Raises:
        InputError: the name is AVSBench's, or is not a plain word, or there are no classes.
    """
    if facts.name in SUBSETS:
        raise InputError(f"'{facts.name}' is a subset of AVSBench; give the dataset another name.")
    if not facts.name.isidentifier():
        raise InputError(
            f"A dataset cannot be named '{facts.name}'; use letters, digits and underscores, since folders of "
            "flow and names of splits are made from it."
        )
    if len(facts.classes) < 2:
        raise InputError(
            f"Dataset '{facts.name}' has {len(facts.classes)} classes; name background and at least one."
        )
    _DATASETS.facts[facts.name] = facts
    _DATASETS.readers.pop(facts.name, None)
    if reader is not None:
        _DATASETS.readers[facts.name] = reader
    return facts


def get_facts(name: str) -> DatasetFacts:
    """Look a dataset up by name.

    Raises:
        UnknownNameError: listing the names there are.
    """
    try:
        return _DATASETS.facts[name]
    except KeyError:
        raise UnknownNameError(
            f"There is no dataset '{name}'; choose one of {', '.join(_DATASETS.facts)}."
        ) from None


def get_reader(name: str) -> Reader | None:
    """The reader of a dataset; None where its facts' templates say where the files are."""
    return _DATASETS.readers.get(name)


def dataset_names() -> tuple[str, ...]:
    """All datasets known, AVSBench's subsets first."""
    return tuple(_DATASETS.facts)
