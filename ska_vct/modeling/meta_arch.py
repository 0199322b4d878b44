"""SKA-VCT as a Detectron2 meta-architecture: clips in, losses or semantic maps out (docs/architecture.md).

Shape legend: N frames of all clips together, T frames of one clip, C width, K classes, h x w mask-feature grid.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import Tensor, nn

from ska_vct.config_files import portable_config
from ska_vct.structures import IGNORE_LABEL, UNKNOWN_CATEGORY
from ska_vct.structures.clip import TRUE_CONDITION

from .audio.registry import build_audio_encoder
from .batch import FrameBatch, collate_clips
from .brm import BRM, build_brm
from .hub import PretrainedMixin
from .inference import segment
from .layers import without_autocast
from .losses.auxiliary import LossInputs, add_losses, build_losses
from .losses.criterion import SetCriterion
from .losses.prototypes import PrototypeAlignment
from .losses.targets import Targets
from .motion.map_features import MapFeatures, build_map_features
from .motion.ska import MotionPrompt, build_ska
from .outputs import FrameOutputs
from .pixel_decoder import MSDeformAttnPixelDecoder
from .pre_mask_encoder import PreMaskEncoder
from .predictions import Predictions
from .queries.mpqg import MPQG
from .transformer_decoder import MaskedTransformerDecoder

# Strides of every backbone reach 32.
_SIZE_DIVISIBILITY = 32


@META_ARCH_REGISTRY.register()
class SKAVCT(PretrainedMixin, nn.Module):
    """The whole model. With SKA, BRM and the motion prompt off it is VCT."""

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        pre_mask_encoder: PreMaskEncoder | None,
        audio_encoder: nn.Module,
        pixel_decoder: MSDeformAttnPixelDecoder,
        ska: nn.Module | None,
        mpqg: MPQG,
        decoder: MaskedTransformerDecoder,
        brm: BRM | None,
        prototype_alignment: PrototypeAlignment | None,
        criterion: SetCriterion,
        prototype_weight: float,
        boundary_weight: float,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        map_features: MapFeatures | None = None,
        losses: nn.ModuleDict | None = None,
        return_extras: bool = False,
        compile: bool = False,
        config_text: str = "",
    ):
        """
        Args:
            backbone: visual backbone with outputs res2..res5.
            pre_mask_encoder: siamese encoder of segment images, or None.
            audio_encoder: log-mel -> audio grid.
            pixel_decoder: features -> mask features and three scales.
            ska: (audio grid, log-mel, flow) -> ``MotionPrompt``, or None.
            mpqg: mask features (and prompt) -> queries.
            decoder: queries -> predictions.
            brm: boundary head, or None.
            prototype_alignment: compares audio with prototypes, or None.
            criterion: set criterion.
            prototype_weight, boundary_weight: weights of these losses.
            pixel_mean, pixel_std: of RGB in 0..255.
            map_features: marks mask features and keys with the motion map, or None.
            losses: further losses by name, see ``LOSS_REGISTRY``.
            return_extras: whether inference also returns ``motion_map`` and ``boundary``.
            compile: see ``compile_parts``.
            config_text: the configuration as YAML, for ``save_pretrained``.
        """
        super().__init__()
        self.backbone = backbone
        self.pre_mask_encoder = pre_mask_encoder
        self.audio_encoder = audio_encoder
        self.pixel_decoder = pixel_decoder
        self.ska = ska
        self.mpqg = mpqg
        self.decoder = decoder
        self.brm = brm
        self.prototype_alignment = prototype_alignment
        self.criterion = criterion
        self.prototype_weight = prototype_weight
        self.boundary_weight = boundary_weight
        self.map_features = map_features
        self.losses = nn.ModuleDict() if losses is None else losses
        self.return_extras = return_extras
        self.config_text = config_text
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(3, 1, 1), persistent=False)
        if compile:
            self.compile_parts()

    @classmethod
    def from_config(cls, cfg):
        backbone = build_backbone(cfg)
        pre_mask_encoder = None
        if cfg.MODEL.PRE_MASK.ENABLED:
            pre_mask_encoder = PreMaskEncoder(backbone=build_backbone(cfg), reduction=cfg.MODEL.PRE_MASK.REDUCTION)
        has_prototypes = cfg.MODEL.MPQG.NUM_PROTOTYPES > 0
        return {
            "backbone": backbone,
            "pre_mask_encoder": pre_mask_encoder,
            "audio_encoder": build_audio_encoder(cfg),
            "pixel_decoder": MSDeformAttnPixelDecoder(cfg, backbone.output_shape()),
            # A motion map that nothing reads would leave parameters without a gradient.
            "ska": build_ska(cfg) if cfg.MODEL.MPQG.MOTION else None,
            "mpqg": MPQG(cfg),
            "decoder": MaskedTransformerDecoder(cfg),
            "brm": build_brm(cfg),
            "prototype_alignment": PrototypeAlignment(dim=cfg.MODEL.HIDDEN_DIM) if has_prototypes else None,
            "criterion": SetCriterion(cfg),
            "prototype_weight": cfg.MODEL.CRITERION.PROTO_WEIGHT,
            "boundary_weight": cfg.MODEL.BRM.LOSS_WEIGHT,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "map_features": build_map_features(cfg),
            "losses": build_losses(cfg),
            "return_extras": cfg.TEST.RETURN_EXTRAS,
            "compile": cfg.MODEL.COMPILE,
            "config_text": portable_config(cfg),
        }

    def compile_parts(self, **options) -> None:
        """Compile backbones, pixel decoder and decoder in place, so that names in checkpoints do not change.

        Each is one graph without breaks; after the first change of the number of frames, one for any number.

        Args:
            options: of ``torch.compile``.
        """
        encoder = self.pre_mask_encoder
        backbones = [self.backbone] if encoder is None else [self.backbone, encoder.backbone]
        for part in (*backbones, self.pixel_decoder, self.decoder):
            part.compile(**options)

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.pixel_mean.device

    def forward(self, clips: Sequence[Mapping]) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Train on or segment a batch of clips.

        Args:
            clips: as ``ska_vct.structures.clip`` describes; their lengths may differ. In inference, images of
                clips that hold the very same tensors are processed once.

        Returns:
            in training, weighted losses by name. Otherwise one dict per clip, for its T valid frames:
                ``sem_seg`` float32 (T, K, height, width), class scores, not normalised;
                with ``return_extras`` also ``motion_map`` (T, g, g) in [0, 1] and ``boundary`` (T, h, w), a
                probability.

        Raises:
            ClipError: naming the clip and the field that is wrong.
        """
        batch = self.collate(clips)
        outputs = self.predict(batch, all_layers=self.training)
        if self.training:
            return self._losses(clips, batch, outputs)
        return self.results(clips, batch, outputs)

    def collate(self, clips: Sequence[Mapping]) -> FrameBatch:
        """The clips' frames as one block with what this model reads; in training only those with ground truth.

        Args, Raises: see :meth:`forward`.
        """
        return collate_clips(
            clips,
            pixel_mean=self.pixel_mean,
            pixel_std=self.pixel_std,
            divisibility=_SIZE_DIVISIBILITY,
            annotated_only=self.training,
            with_flow=self.ska is not None,
            with_pre_masks=self.pre_mask_encoder is not None,
            with_audio_second=self.reads_audio_second,
            share_images=not self.training,
        )

    def predict(self, batch: FrameBatch, *, all_layers: bool = False) -> FrameOutputs:
        """Run every stage on a block of frames: what training, inference and export share.

        Args:
            batch: N frames.
            all_layers: keep the predictions of every decoder layer, which the losses read, else only the last.
        """
        features = self.extract_features(batch)
        mask_features, scales = self.decode_pixels(features, batch)
        audio_grid = self.encode_audio(batch)
        prompt = self.motion_prompt(audio_grid, batch)
        predictions = self.decode(
            audio_grid, mask_features, scales, prompt, all_layers=all_layers, noise=batch.noise
        )
        return FrameOutputs(
            features=features,
            audio_grid=audio_grid,
            mask_features=mask_features,
            scales=scales,
            prompt=prompt,
            predictions=predictions,
        )

    def extract_features(self, batch: FrameBatch) -> dict[str, Tensor]:
        """Visual features res2..res5 of the M images, with what the segment images add."""
        features = self.backbone(batch.images)
        if self.pre_mask_encoder is not None:
            features = self.pre_mask_encoder(batch.pre_masks, features)
        return features

    def decode_pixels(self, features: Mapping[str, Tensor], batch: FrameBatch) -> tuple[Tensor, list[Tensor]]:
        """Mask features (N, mask_dim, h, w) and three scales (N, C, ., .), coarse to fine, of the N frames."""
        mask_features, scales = self.pixel_decoder(features)
        rows = batch.image_rows
        return (mask_features, scales) if rows is None else (mask_features[rows], [x[rows] for x in scales])

    def encode_audio(self, batch: FrameBatch) -> Tensor:
        """Audio grid (N, C, a, b)."""
        return self.audio_encoder(_log_mel_of(self.audio_encoder, batch))

    def motion_prompt(self, audio_grid: Tensor, batch: FrameBatch) -> MotionPrompt | None:
        """The motion module's prompt for the N frames; None without a module."""
        if self.ska is None:
            return None
        return self.ska(audio_grid, _log_mel_of(self.ska, batch), batch.flow)

    def decode(
        self,
        audio_grid: Tensor,
        mask_features: Tensor,
        scales: list[Tensor],
        prompt: MotionPrompt | None,
        *,
        all_layers: bool,
        noise: Sequence[tuple[int, int]] | None = None,
    ) -> Predictions:
        """Make queries from features and prompt, and predict from them.

        Args:
            audio_grid: (N, C, a, b).
            mask_features: (N, mask_dim, h, w).
            scales: three of (N, C, ., .), coarse to fine.
            prompt: of the motion module, or None.
            all_layers: see :meth:`predict`.
            noise: see ``MPQG.forward``.
        """
        queries = self.mpqg(mask_features, prompt, noise)
        keys = None
        if self.map_features is not None:
            mask_features, keys = self.map_features(prompt, mask_features, scales)
        return self.decoder(queries, audio_grid, scales, mask_features, all_layers=all_layers, key_offsets=keys)

    @property
    def reads_audio_second(self) -> bool:
        """Whether a part reads the log-mel of exactly the frame's second."""
        return any(_reads_audio_second(part) for part in (self.audio_encoder, self.ska))

    @property
    def reads_boundary(self) -> bool:
        """Whether inference reads the boundary head, not only the loss."""
        return self.brm is not None and (self.return_extras or self.brm.fusion > 0)

    def final_masks(self, predictions: Predictions) -> Tensor:
        """Mask logits (N, Q, h, w) of the result, with BRM's contours where the configuration fuses them."""
        masks = predictions.masks(-1)
        return masks if self.brm is None else self.brm.sharpen(masks, predictions.mask_features)

    def _losses(self, clips: Sequence[Mapping], batch: FrameBatch, outputs: FrameOutputs) -> dict[str, Tensor]:
        targets = Targets.from_label_maps(batch.labels, ignore_label=IGNORE_LABEL, device=self.device)
        losses = self.criterion.weigh(self.criterion(outputs.predictions, targets, batch.noise))
        if self.prototype_alignment is not None:
            audio, prototypes = self.prototype_alignment.embed(outputs.audio_grid, self.mpqg.prototypes.weight)
            sounding = sounding_classes(
                clips, batch, num_classes=self.criterion.num_classes, num_prototypes=len(prototypes)
            ).to(self.device)
            loss = self.prototype_alignment.loss(audio, prototypes, sounding)
            losses["loss_proto"] = self.prototype_weight * loss
        if self.brm is not None:
            loss = self.brm.loss(self.brm(outputs.predictions.mask_features), targets.labels, IGNORE_LABEL)
            losses["loss_boundary"] = self.boundary_weight * loss
        inputs = LossInputs(clips=clips, batch=batch, targets=targets, outputs=outputs)
        add_losses(losses, self.losses, inputs)
        _log_negatives(clips)
        return losses

    def results(
        self, clips: Sequence[Mapping], batch: FrameBatch, outputs: FrameOutputs
    ) -> list[dict[str, Tensor]]:
        """What inference returns for the clips of a batch, see :meth:`forward`."""
        predictions = outputs.predictions
        logits = predictions.logits[-1].split(batch.lengths)
        masks = self.final_masks(predictions).split(batch.lengths)
        results = []
        for index, clip in enumerate(clips):
            size = batch.image_sizes[index]
            # Scores are compared with one another: all digits, also under autocast.
            with without_autocast(self.device):
                sem_seg = segment(
                    logits[index],
                    masks[index],
                    padded_size=batch.padded_size,
                    image_size=size,
                    output_size=(clip.get("height", size[0]), clip.get("width", size[1])),
                )
            results.append({"sem_seg": sem_seg})
        if self.return_extras:
            self._add_extras(results, batch, outputs)
        return results

    def _add_extras(self, results: list[dict], batch: FrameBatch, outputs: FrameOutputs) -> None:
        if outputs.prompt is not None:
            for result, motion_map in zip(
                results, outputs.prompt.motion_map[:, 0].split(batch.lengths), strict=True
            ):
                result["motion_map"] = motion_map
        if self.brm is not None:
            boundary = self.brm(outputs.predictions.mask_features).sigmoid()
            for result, contour in zip(results, batch.split_maps(boundary), strict=True):
                result["boundary"] = contour


def _reads_audio_second(part: nn.Module | None) -> bool:
    return getattr(part, "reads_audio_second", False)


def _log_mel_of(part: nn.Module, batch: FrameBatch) -> Tensor:
    return batch.audio_second if _reads_audio_second(part) else batch.log_mel


def _log_negatives(clips: Sequence[Mapping]) -> None:
    """Log which share of a batch's clips had its audio replaced, by kind, where there are any."""
    kinds = Counter(clip.get("condition", TRUE_CONDITION) for clip in clips)
    kinds.pop(TRUE_CONDITION, None)
    if kinds and has_event_storage():
        for kind, count in kinds.items():
            get_event_storage().put_scalar(f"negative_audio/{kind}", count / len(clips))


def sounding_classes(
    clips: Sequence[Mapping], batch: FrameBatch, *, num_classes: int, num_prototypes: int
) -> Tensor:
    """Which prototypes' classes are heard in each frame.

    That is the clip's category or, where every class has a prototype, the classes in the frame's mask.

    Returns:
        float32 (N, num_prototypes) on the host, 0 or 1; -1 in frames of clips without a category.
    """
    if num_prototypes == num_classes:
        target = torch.zeros(len(batch.labels), IGNORE_LABEL + 1)
        target.scatter_(1, batch.labels.flatten(1), 1.0)
        return target[:, :num_prototypes]
    category = torch.tensor([clip.get("category", UNKNOWN_CATEGORY) for clip in clips])
    target = F.one_hot(category.clamp(min=0), num_prototypes).float()
    target[category == UNKNOWN_CATEGORY] = -1.0
    return target.repeat_interleave(torch.tensor(batch.lengths), dim=0)
