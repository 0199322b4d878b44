"""Addresses of published weights.

``seen_in`` says where an address was found; the files themselves were not downloaded when this was written. A
checksum is given only if the publisher states one: PyTorch's file names end in the first digits of their SHA-256,
and Hugging Face sends it with the file.
"""

from dataclasses import dataclass

SCHEME = "ska_vct://"
_SWIN = "https://github.com/SwinTransformer/storage/releases/download/"
_VCT = "https://huggingface.co/nowherespyfly/VCT_AVS/resolve/main/"
_PVT = "https://github.com/whai362/PVT/releases/download/v2/"
_TORCH = "https://download.pytorch.org/models/"
_M2F = "https://dl.fbaipublicfiles.com/maskformer/mask2former/"


@dataclass(frozen=True)
class Weights:
    """A published file.

    Attributes:
        url: address.
        what: contents and pretraining.
        key: config key it is for.
        seen_in: where the address was found.
        filename: name in the cache; default: the address's last part.
        sha256: checksum or its first digits, if published.
    """

    url: str
    what: str
    key: str
    seen_in: str
    filename: str = ""
    sha256: str = ""

    @property
    def file(self) -> str:
        """Name in the cache."""
        return self.filename or self.url.rsplit("/", 1)[-1]


def _swin(release: str, name: str, what: str) -> Weights:
    return Weights(f"{_SWIN}{release}/{name}.pth", what, "MODEL.BACKBONE_WEIGHTS", "Swin-Transformer's README")


def _vct(folder: str, what: str) -> Weights:
    name = f"vct_{folder}.pth"
    return Weights(f"{_VCT}{folder}/model_best.pth", what, "MODEL.WEIGHTS", "VCT_AVS's README", filename=name)


def _mask2former(path: str, name: str, what: str) -> Weights:
    seen = "Mask2Former's MODEL_ZOO.md"
    return Weights(f"{_M2F}{path}", what, "MODEL.WEIGHTS", seen, filename=f"{name}.pkl")


ZOO: dict[str, Weights] = {
    "vct_s4": _vct("s4_swinb_384", "VCT, Swin-B 384, S4"),
    "vct_ms3": _vct("ms3_swinb_384", "VCT, Swin-B 384, MS3"),
    "vct_avss": _vct("ss_swinb_384", "VCT, Swin-B 384, AVSS"),
    "swin_t_224": _swin("v1.0.0", "swin_tiny_patch4_window7_224", "Swin-T, ImageNet-1k"),
    "swin_s_224": _swin("v1.0.0", "swin_small_patch4_window7_224", "Swin-S, ImageNet-1k"),
    "swin_b_384": _swin("v1.0.0", "swin_base_patch4_window12_384", "Swin-B, ImageNet-1k"),
    "swin_b_384_22k": _swin("v1.0.0", "swin_base_patch4_window12_384_22k", "Swin-B, ImageNet-22k"),
    "swin_l_384_22k": _swin("v1.0.0", "swin_large_patch4_window12_384_22k", "Swin-L, ImageNet-22k"),
    "pvt_v2_b2": Weights(
        f"{_PVT}pvt_v2_b2.pth", "PVTv2-B2, ImageNet-1k", "MODEL.BACKBONE_WEIGHTS", "PVT's README"
    ),
    "pvt_v2_b5": Weights(
        f"{_PVT}pvt_v2_b5.pth", "PVTv2-B5, ImageNet-1k", "MODEL.BACKBONE_WEIGHTS", "PVT's README"
    ),
    "resnet50": Weights(
        f"{_TORCH}resnet50-0676ba61.pth",
        "ResNet-50, ImageNet-1k (V1)",
        "MODEL.BACKBONE_WEIGHTS",
        "torchvision's source",
        sha256="0676ba61",
    ),
    "vggish": Weights(
        "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
        "VGGish, AudioSet",
        "MODEL.AUDIO.WEIGHTS",
        "torchvggish's hubconf.py",
    ),
    "raft_large": Weights(
        f"{_TORCH}raft_large_C_T_SKHT_V2-ff5fadd5.pth",
        "RAFT large, optical flow",
        "read by torchvision itself, from its own cache",
        "torchvision's source",
        sha256="ff5fadd5",
    ),
    "mask2former_coco_swin_b": _mask2former(
        "coco/panoptic/maskformer2_swin_base_IN21k_384_bs16_50ep/model_final_54b88a.pkl",
        "mask2former_coco_swin_b",
        "Mask2Former, Swin-B 384 (22k), COCO panoptic",
    ),
    "mask2former_ade20k_swin_b": _mask2former(
        "ade20k/semantic/maskformer2_swin_base_IN21k_384_bs16_160k_res640/model_final_7e47bf.pkl",
        "mask2former_ade20k_swin_b",
        "Mask2Former, Swin-B 384 (22k), ADE20K semantic",
    ),
    "mask2former_coco_r50": _mask2former(
        "coco/panoptic/maskformer2_R50_bs16_50ep/model_final_94dc52.pkl",
        "mask2former_coco_r50",
        "Mask2Former, ResNet-50, COCO panoptic",
    ),
}
