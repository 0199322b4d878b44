"""Flow from torchvision's RAFT (Teed and Deng, "RAFT: Recurrent All-Pairs Field Transforms", ECCV 2020).

Shape legend
    n     pairs of images
    H, W  images, pixels
"""

import hashlib
import os
import pickle
import sys
from contextlib import redirect_stdout
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import optical_flow

from ska_vct.data.flow.methods.base import FlowMethod
from ska_vct.data.flow.store import FlowError

RAFT_MODELS = {
    "raft_large": (optical_flow.raft_large, optical_flow.Raft_Large_Weights.DEFAULT),
    "raft_small": (optical_flow.raft_small, optical_flow.Raft_Small_Weights.DEFAULT),
}
# RAFT compares features of an eighth of the image over four scales, the coarsest of which needs two cells.
MIN_SIDE = 128
MULTIPLE = 8


class RaftFlow(FlowMethod):
    """RAFT as a flow method; smaller images are enlarged to what it needs, and their flow brought back.

    Args:
        model: of ``RAFT_MODELS``, with its weights.
        name: its name there.
        weights: name of the weights, for the record.
        device: where it runs.
        batch_size: pairs taken at once.
    """

    def __init__(self, *, model: nn.Module, name: str, weights: str, device: str, batch_size: int):
        if batch_size < 1:
            raise FlowError(f"The batch size is {batch_size}; it must be at least 1.")
        self.model = model.to(device).eval()
        self.name = name
        self.weights = weights
        self.device = device
        self.batch_size = batch_size

    @classmethod
    def pretrained(cls, name: str, *, weights: str | os.PathLike, device: str, batch_size: int) -> "RaftFlow":
        """RAFT with torchvision's weights (downloaded once), or with those of a file in its format.

        Raises:
            FlowError: the weights are not to be had, or do not fit; the sentence says what to do.
        """
        build, default = RAFT_MODELS[name]
        state, title = _read_weights(Path(weights), name) if weights else _download(default, name)
        model = build(weights=None)
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise FlowError(
                f"Weights {weights or default} do not fit {name}: {' '.join(str(error).split())}"
            ) from None
        return cls(model=model, name=name, weights=title, device=device, batch_size=batch_size)

    @torch.inference_mode()
    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        height, width = first.shape[1:3]
        grow = max(1.0, MIN_SIDE / min(height, width))
        grown = round(height * grow), round(width * grow)
        pair = [self._prepare(images, grown) for images in (first, second)]
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            flow = self.model(*pair)[-1][:, :, : grown[0], : grown[1]].float().cpu().numpy()
        if grow == 1:
            return np.ascontiguousarray(flow)
        scale = np.array([width / grown[1], height / grown[0]], np.float32)[:, None, None]
        small = [
            cv2.resize(field.transpose(1, 2, 0), (width, height), interpolation=cv2.INTER_AREA) for field in flow
        ]
        return np.stack(small).transpose(0, 3, 1, 2) * scale

    def _prepare(self, images: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
        """uint8 (n, H, W, 3) to float32 (n, 3, H', W') in -1..1; sides become multiples of 8."""
        tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).to(self.device)
        tensor = tensor.float() / 127.5 - 1
        if tensor.shape[2:] != size:
            tensor = F.interpolate(tensor, size, mode="bilinear", align_corners=False)
        return F.pad(tensor, (0, -size[1] % MULTIPLE, 0, -size[0] % MULTIPLE), mode="replicate")


def _download(weights, name: str) -> tuple[dict, str]:
    try:
        # torch announces the download where tables are printed.
        with redirect_stdout(sys.stderr):
            return weights.get_state_dict(progress=True, check_hash=True), str(weights)
    except (OSError, RuntimeError) as error:
        file = weights.url.rsplit("/", 1)[-1]
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise FlowError(
            f"The weights of {name} could not be downloaded ({error}); use --method dis, which needs none, or "
            f"fetch {weights.url} elsewhere and put it at {folder / file}, or name it with --weights."
        ) from None


def _read_weights(path: Path, name: str) -> tuple[dict, str]:
    try:
        data = path.read_bytes()
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FlowError(f"Weights {path} cannot be read ({reason}); give torchvision's file of {name}.") from None
    if not isinstance(state, dict):
        raise FlowError(f"Weights {path} hold a {type(state).__name__}; give torchvision's file of {name}.")
    # The folder is a user's own business; name and content are what makes the flow.
    return state, f"{path.name} sha256:{hashlib.sha256(data).hexdigest()[:16]}"
