"""YAML that cannot exhaust memory or the stack."""

from typing import Any

import yaml

# Groups of keys are four deep.
_MAX_DEPTH = 32
_MAX_VALUES = 100_000
_MAX_LENGTH = 1 << 20


def parse_yaml(text: str) -> Any:
    """Plain YAML of bounded depth and size.

    Aliases count in full, because a few lines of them nest to billions of values; a saved configuration has some,
    for values that two keys share.

    Raises:
        yaml.YAMLError: it is not plain YAML, or too large.
        ValueError: a value cannot be built, such as a date that does not exist.
    """
    if len(text) > _MAX_LENGTH:
        raise yaml.YAMLError(f"more than {_MAX_LENGTH >> 20} MiB of text are not read")
    depth, sizes, open_sizes = 0, {}, [0]
    names: list[str | None] = [None]
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_sizes.append(1)
            names.append(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            size, name = open_sizes.pop(), names.pop()
            open_sizes[-1] += size
            sizes[name] = size
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in names:
                raise yaml.YAMLError(f"*{str(event.anchor)[:40]} refers to what contains it")
            open_sizes[-1] += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            open_sizes[-1] += 1
        depth = max(depth, len(open_sizes))
        if depth > _MAX_DEPTH or open_sizes[-1] > _MAX_VALUES:
            raise yaml.YAMLError(
                f"it is nested deeper than {_MAX_DEPTH} levels or has more than {_MAX_VALUES} values"
            )
    return yaml.safe_load(text)
