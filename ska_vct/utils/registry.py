"""Look up the exchangeable parts of the model by the names that a configuration gives them."""

from typing import Any

from fvcore.common.registry import Registry

from .errors import UnknownNameError


def find_registered(registry: Registry, name: str, *, key: str) -> Any:
    """The class or function that ``registry`` holds for ``name``.

    Args:
        registry: one of Detectron2's or ours.
        name: what the configuration says.
        key: the config key it stands in, for the message.

    Raises:
        UnknownNameError: nothing is registered under that name; lists the names there are.
    """
    if name not in registry:
        known = ", ".join(sorted(entry for entry, _ in registry)) or "none"
        raise UnknownNameError(
            f"{key} is '{name}', which is not registered; there are {known}. Modules of your own register theirs "
            "when IMPORTS names them."
        )
    return registry.get(name)
