"""Resolves what a config names as weights to a file on disk.

=================================  =======================================================================
``path/to/file``                   a file
``ska_vct://vct_s4``               a name in :mod:`ska_vct.checkpoint.fetch.zoo` or
                                   :mod:`ska_vct.checkpoint.fetch.packages`
``ska_vct://demo``                 weights that come with this package
``https://host/file``              any address; an appended ``#sha256=<hex>`` is verified
``hf://org/repo/file``             a file on Hugging Face; ``org/repo@revision`` for a revision other than ``main``
``timm://name`` or just ``name``   pretrained weights of a timm model, e.g. ``pvt_v2_b5.in1k``
=================================  =======================================================================
"""

import os
import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from ska_vct.utils.errors import InputError, MissingFileError

from .download import cache_folder, download
from .packages import PACKAGES, resolve_packaged, shipped
from .zoo import SCHEME, ZOO

_HUB = "https://huggingface.co"
_HUB_VARIABLE = "HF_ENDPOINT"
_TIMM_FILE = "model.safetensors"
_FORMS = f"a file, {SCHEME}NAME, https://..., hf://ORG/REPO/FILE or the name of a timm model"


def resolve(source: str | os.PathLike, *, key: str = "the config") -> Path:
    """The file that ``source`` refers to, downloaded on first use.

    Args:
        source: see the module docstring.
        key: config key that holds it, for messages.

    Raises:
        FileNotFoundError: there is no such file, and ``source`` is not an address or a timm model.
        ValueError: the scheme or the name is unknown.
        DownloadError: it cannot be downloaded.
    """
    text = str(source)
    scheme, mark, rest = text.partition("://")
    if not mark:
        return _file_or_timm(text, key)
    if text.startswith(SCHEME):
        return _from_zoo(rest, key)
    if scheme in ("https", "http"):
        return _from_url(text, key)
    if scheme == "hf":
        return _from_hub(rest, key)
    if scheme == "timm":
        return _from_timm(rest, key)
    raise InputError(f"{key}: '{text}' has an unknown scheme; write {_FORMS}.")


def _file_or_timm(text: str, key: str) -> Path:
    path = Path(text).expanduser()
    if path.is_file():
        return path
    if re.fullmatch(r"[\w.]+", text):
        import timm

        if timm.models.is_model_pretrained(text):
            return _from_timm(text, key)
    raise MissingFileError(f"{key}: there is no file '{text}'; write {_FORMS}.")


def _from_zoo(name: str, key: str) -> Path:
    own = shipped(name, key=key)
    if own is not None:
        return own
    if name in PACKAGES:
        return resolve_packaged(name, key=key)
    if name not in ZOO:
        raise InputError(f"{key}: '{SCHEME}{name}' is unknown; choose one of {', '.join([*ZOO, *PACKAGES])}.")
    weights = ZOO[name]
    return download(weights.url, cache_folder() / weights.file, sha256=weights.sha256, key=key)


def _from_url(url: str, key: str) -> Path:
    parts = urlsplit(url)
    sha256 = parts.fragment.removeprefix("sha256=") if parts.fragment.startswith("sha256=") else ""
    if sha256 and not re.fullmatch(r"[0-9a-fA-F]{8,64}", sha256):
        raise InputError(f"{key}: '{sha256}' is not a SHA-256; write at least its first 8 hexadecimal digits.")
    path = _clean(unquote(parts.path), url, key)
    # The port is part of the server's name, but some file systems do not allow a colon.
    target = cache_folder() / "url" / parts.netloc.rpartition("@")[2].replace(":", "_") / path
    return download(parts._replace(fragment="").geturl(), target, sha256=sha256, key=key)


def _from_hub(rest: str, key: str) -> Path:
    parts = rest.split("/", 2)
    if len(parts) != 3 or not all(parts):
        raise InputError(f"{key}: 'hf://{rest}' is incomplete; write hf://ORG/REPO/FILE.")
    org, repo, file = parts
    repo, _, revision = repo.partition("@")
    revision = revision or "main"
    target = cache_folder() / "hf" / _clean(f"{org}/{repo}/{revision}/{file}", f"hf://{rest}", key)
    hub = os.environ.get(_HUB_VARIABLE, _HUB).rstrip("/")
    return download(f"{hub}/{org}/{repo}/resolve/{revision}/{file}", target, key=key)


def _from_timm(name: str, key: str) -> Path:
    from timm.models import get_pretrained_cfg, is_model

    known = get_pretrained_cfg(name) if is_model(name) else None
    if known is None or not known.hf_hub_id:
        raise InputError(f"{key}: timm has no pretrained weights called '{name}' on Hugging Face.")
    return _from_hub(f"{known.hf_hub_id}/{known.hf_hub_filename or _TIMM_FILE}", key)


def _clean(path: str, source: str, key: str) -> PurePosixPath:
    parts = [part for part in path.split("/") if part]
    if not parts or any(part in (".", "..") or "\\" in part for part in parts):
        raise InputError(f"{key}: '{source}' does not name a file.")
    return PurePosixPath(*parts)
