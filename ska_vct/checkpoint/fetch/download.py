"""Downloads files into a cache: once, atomically, resumed after an interruption, verified by checksum if known.

Neither huggingface_hub, torch.hub nor pooch both resumes in a later run and verifies a shortened SHA-256.
"""

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

from ska_vct.utils.errors import SkaVctError

_TIMEOUT = 30.0
_TRIES = 4
_BLOCK = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VARIABLE = "SKA_VCT_CACHE"


class DownloadError(SkaVctError, OSError):
    """A file cannot be downloaded; the message says which, and where to put it manually."""


class _Broken(Exception):
    """The connection ended early."""


def cache_folder() -> Path:
    """Folder of downloaded files: ``$SKA_VCT_CACHE``, else ``~/.cache/ska_vct``."""
    folder = os.environ.get(_VARIABLE)
    return Path(folder).expanduser() if folder else Path("~/.cache/ska_vct").expanduser()


def download(url: str, target: Path, *, sha256: str = "", key: str = "the config") -> Path:
    """Download ``url`` to ``target`` unless it exists; a lock prevents concurrent downloads of the same file.

    Args:
        url: address; an interrupted download is resumed if the server supports it.
        target: file to write.
        sha256: checksum, or its first digits; otherwise the one that the server sends with the file, if any.
        key: config key that named the file, for messages.

    Raises:
        DownloadError: it cannot be downloaded, or its checksum does not match.
    """
    if target.is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_beside(target, ".lock")):
            if not target.is_file():
                part = _beside(target, ".part")
                sent = _fetch_with_retries(url, part)
                _check(part, sha256 or sent)
                os.replace(part, target)
                _beside(target, ".part.etag").unlink(missing_ok=True)
    except (OSError, http.client.HTTPException, _Broken, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DownloadError(
            f"Cannot download {url} ({reason}); download it on a machine with network access and put it at "
            f"{target}, or set {key} to a local file."
        ) from None
    return target


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _fetch_with_retries(url: str, part: Path) -> str:
    for tries_left in reversed(range(_TRIES)):
        before = part.stat().st_size if part.is_file() else 0
        try:
            return _fetch(url, part)
        except (_Broken, http.client.IncompleteRead, ConnectionError, TimeoutError):
            # Retry only while there is progress: an unreachable server is not asked four times.
            after = part.stat().st_size if part.is_file() else 0
            if not tries_left or after <= before:
                raise
    raise AssertionError("unreachable")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects and keeps the checksum that Hugging Face sends with the first response."""

    def __init__(self):
        self.etag = ""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        self.etag = self.etag or headers.get("X-Linked-ETag", "")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetch(url: str, part: Path) -> str:
    """Write ``part``, resuming it if the server can; returns the SHA-256 that the server sent, or ""."""
    etag_file = part.with_name(part.name + ".etag")
    request = urllib.request.Request(url, headers={"User-Agent": "ska_vct", "Accept-Encoding": "identity"})
    have = part.stat().st_size if part.is_file() else 0
    if have and etag_file.is_file():
        request.add_header("Range", f"bytes={have}-")
        # Resume only if the file is unchanged; otherwise the server sends all of it.
        request.add_header("If-Range", etag_file.read_text())
    redirects = _Redirects()
    try:
        response = urllib.request.build_opener(redirects).open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            part.unlink(missing_ok=True)
            etag_file.unlink(missing_ok=True)
            return _fetch(url, part)
        raise OSError(f"the server answered {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise OSError(str(error.reason)) from None
    with response:
        continued = response.status == 206 and response.headers.get("Content-Range", "").startswith(
            f"bytes {have}-"
        )
        have = have if continued else 0
        if not continued:
            _remember(etag_file, response.headers.get("ETag") or response.headers.get("Last-Modified"))
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        _copy(response, part, have, total)
        etag = redirects.etag or response.headers.get("X-Linked-ETag", "")
    found = _SHA256.fullmatch(etag.strip('"'))
    return found[0] if found else ""


def _remember(file: Path, etag: str | None) -> None:
    # A weak tag does not guarantee identical bytes.
    if etag and not etag.startswith("W/"):
        file.write_text(etag)
    else:
        file.unlink(missing_ok=True)


def _copy(response: http.client.HTTPResponse, part: Path, have: int, total: int | None) -> None:
    name = part.name.removesuffix(".part")
    with (
        open(part, "ab" if have else "wb") as file,
        tqdm(total=total, initial=have, unit="B", unit_scale=True, unit_divisor=1024, desc=name) as bar,
    ):
        while block := response.read(_BLOCK):
            file.write(block)
            bar.update(len(block))
        size = file.tell()
    if total is not None and size < total:
        raise _Broken(f"the connection ended after {size} of {total} bytes; run again to continue")


def _check(part: Path, sha256: str) -> None:
    if not sha256:
        return
    with open(part, "rb") as file:
        found = (
            hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)
        )
    if not found.startswith(sha256.lower()):
        part.unlink()
        raise OSError(f"its SHA-256 is {found[: max(8, len(sha256))]} instead of {sha256}")


def _digest(file) -> str:
    # Python 3.10 has no hashlib.file_digest.
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()
