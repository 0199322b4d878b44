"""Debian packages as sources: reading them safely, and what is known about the content of some.

A package is an ``ar`` archive whose member ``data.tar.*`` holds the files. Only regular files of wanted kinds are
taken, under their base names; nothing is executed and no path of the archive is followed.
"""

import fnmatch
import io
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ska_vct.utils.errors import InputError

_MAX_FILE = 64 << 20
_MAX_FILES = 20_000
_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60


@dataclass(frozen=True, kw_only=True)
class Known:
    """What was seen and heard in a package.

    Attributes:
        cutouts: patterns of paths of cut-outs; none if it holds no photographs of objects.
        not_cutouts: of these, drawings, silhouettes, signs and things that are hardly visible.
        not_own_sound: names whose recording is speech, or is not the sound of what is seen.
        photographs: names of photographs; the other images are abstract art.
    """

    cutouts: tuple[str, ...] = ()
    not_cutouts: tuple[str, ...] = ()
    not_own_sound: frozenset[str] = frozenset()
    photographs: frozenset[str] = field(default=frozenset())


_PLASMA = (
    "BytheWater ColdRipple ColorfulCups EveningGlow FallenLeaf Grey Kite OneStandsOut Path summer_1am"  # folders
)
KNOWN = {
    "tuxpaint-stamps-default": Known(
        cutouts=(
            "*/animals/*", "*/food/fruit/*", "*/food/nuts/*", "*/food/vegetables/*", "*/hobbies/*",
            "*/household/*", "*/medical/*", "*/plants/*", "*/sports/*", "*/vehicles/*", "*/military/vehicles/*",
            "*/people/*", "*/space/*",
        ),
        not_cutouts=(
            "*/cartoon/*", "*/toys/*", "*/planets/*", "*/moon/*", "*/glass.png", "*/bee.png", "*/echidna.png",
            "*/kangaroo-silo.png", "*/rugby_goal_posts.png", "*/tennis_racket.png", "*/*[Ss]ign*.png",
            "*/scissors_small_*.png", "*/tooth.png",
        ),
        not_own_sound=frozenset({"apollo_lander", "apple_red", "xanthia", "orca"}),
    ),
    "lomiri-wallpapers-16.04": Known(
        photographs=frozenset({
            "Bridge_by_Sander_Klootwijk", "Dragonfly_by_Bolly", "Picture_0B_by_freespace",
            "Picture_1A_by_freespace", "Wine_by_Jakkub_Mede", "aitzgorri_by_Aitzol_Berasategi",
            "free_by_Peter_Nerlich",
            "greentock_by_Peter_Nerlich", "life_by_Aitzol_Berasategi", "picosdeeuropa_by_Aitzol_Berasategi",
            "seeding_by_Clements_Engelhardt", "sunset_by_Aitzol_Berasategi",
        })
    ),
    "lomiri-wallpapers-20.04": Known(photographs=frozenset({"Infinite-Sea_by_Aury88"})),
    "mate-backgrounds": Known(
        photographs=frozenset({
            "Aqua", "Blinds", "Dune", "FreshFlower", "Garden", "GreenMeadow", "LadyBird", "RainDrops", "Storm",
            "TwoWings", "Wood", "YellowFlower",
        })
    ),
    "plasma-workspace-wallpapers": Known(photographs=frozenset(_PLASMA.split())),
}  # fmt: skip


@dataclass(frozen=True)
class PackageFile:
    """One file of a package.

    Attributes:
        path: inside the package.
        data: its content.
    """

    path: str
    data: bytes


def package_name(path: str | os.PathLike) -> str:
    """``tuxpaint-stamps-default_2022.06.04-1_all.deb`` -> ``tuxpaint-stamps-default``."""
    return Path(path).name.removesuffix(".deb").split("_")[0]


def read_package(path: str | os.PathLike, patterns: tuple[str, ...]) -> Iterator[PackageFile]:
    """The regular files of a Debian package whose paths match one of ``patterns``.

    Raises:
        InputError: it is no Debian package, is damaged, or is compressed with what Python cannot read.
    """
    try:
        with open(path, "rb") as file:
            member = _data_member(file, path)
            with tarfile.open(fileobj=member, mode="r:*") as archive:
                for count, item in enumerate(archive):
                    if count > _MAX_FILES:
                        raise InputError(f"Package {path} holds more than {_MAX_FILES} files.")
                    name = str(PurePosixPath(item.name))
                    if not item.isfile() or not any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
                        continue
                    if item.size > _MAX_FILE:
                        raise InputError(f"File {name} of package {path} is larger than {_MAX_FILE >> 20} MiB.")
                    yield PackageFile(name, archive.extractfile(item).read())
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"Package {path} cannot be read ({error}); get it again with 'apt-get download', or unpack it with "
            "'dpkg-deb -x' and name the folders."
        ) from None


def _data_member(file: BinaryIO, path: str | os.PathLike) -> BinaryIO:
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise InputError(f"{path} is not a Debian package; get one with 'apt-get download NAME'.")
    while header := file.read(_AR_HEADER):
        name, size = header[:16].decode("ascii", "replace").strip(), int(header[48:58])
        if name.startswith("data.tar"):
            return _Window(file, size)
        file.seek(size + size % 2, os.SEEK_CUR)
    raise InputError(f"Package {path} holds no data.")


class _Window(io.RawIOBase):
    """A member of an archive as a file of its own."""

    def __init__(self, file: BinaryIO, size: int):
        self._file, self._start, self._size, self._at = file, file.tell(), size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer) -> int:
        self._file.seek(self._start + self._at)
        data = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class Licences:
    """Licences of a package's files, from its copyright file (Debian's machine-readable format 1.0)."""

    def __init__(self, text: str):
        """
        Args:
            text: the copyright file; one in another format gives the answer ``see the copyright file``.
        """
        self._rules: list[tuple[str, str]] = []
        for stanza in re.split(r"\n\s*\n", text):
            keys = dict(re.findall(r"^(\w+):[ \t]*(.*(?:\n[ \t].*)*)", stanza, re.MULTILINE))
            if "Files" in keys and "License" in keys:
                licence = keys["License"].splitlines()[0].strip()
                self._rules += [(pattern, licence) for pattern in keys["Files"].split()]

    def of(self, path: str) -> str:
        """The licence of a file: of the last pattern that fits its path, or its name in any folder."""
        found = "see the copyright file"
        for pattern, licence in self._rules:
            # Patterns are of the source's folders; installed files keep their names.
            same = "*" not in pattern and PurePosixPath(pattern).name == PurePosixPath(path).name
            if same or pattern == "*" or fnmatch.fnmatch(path, f"*/{pattern}"):
                found = licence
        return found
