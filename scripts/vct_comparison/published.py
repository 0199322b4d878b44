"""VCT_AVS (Huang et al., CVPR 2025), imported from the user's clone."""

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from . import inputs

_OP = "MultiScaleDeformableAttention"
_CONFIGS = {"ms3": "configs/ms3_swinb_384/COMBO_SWINB.yaml", "s4": "configs/s4_swinb_384/COMBO_SWINB.yaml"}
# Files by which a clone of VCT_AVS is recognised.
MARKS = ("models/vct_model.py", "train_net.py", *_CONFIGS.values())
# Part of the published model, but never run.
_NEVER_RUN = "audio_backbone.embeddings."


class Published:
    """VCT, as its own programs build and train it."""

    def __init__(self, *, clone: str, device: str, backbone: str, pre_mask: bool):
        """
        Args:
            clone: folder with VCT_AVS.
            device: cpu or cuda.
            backbone: key of ``inputs.BACKBONES``.
            pre_mask: whether the model has the siamese encoder of segment pictures.

        Raises:
            ModuleNotFoundError: a package that VCT_AVS needs is missing.
        """
        self.clone = Path(clone)
        self.device = device
        self.backbone = backbone
        self.pre_mask = pre_mask
        if importlib.util.find_spec(_OP) is None:
            # If an empty module replaces the compiled operator, VCT's own PyTorch path runs.
            sys.modules[_OP] = types.ModuleType(_OP)
        if device == "cpu":
            # Its S4 criterion and F-score call .cuda() on the tensors they create.
            torch.Tensor.cuda = lambda tensor, *args, **kwargs: tensor
        sys.path.insert(0, str(self.clone))
        self.models = importlib.import_module("models")

    def model(self, subset: str, *, amp: bool = False) -> tuple[nn.Module, Callable]:
        """The model of ``subset``'s config with seeded random weights, and its trainer."""
        from detectron2.config import get_cfg
        from detectron2.engine import AMPTrainer, SimpleTrainer
        from detectron2.modeling import build_model
        from detectron2.projects.deeplab import add_deeplab_config

        cfg = get_cfg()
        add_deeplab_config(cfg)
        for name in ("add_audio_config", "add_fuse_config", "add_maskformer2_config"):
            getattr(self.models, name)(cfg)
        cfg.merge_from_file(str(self.clone / _CONFIGS[subset]))
        cfg.MODEL.DEVICE = self.device
        cfg.MODEL.PRE_SAM.USE_PRE_SAM = self.pre_mask
        # A frozen encoder would read the released weights when built, so it is frozen afterwards.
        cfg.MODEL.AUDIO.FREEZE_AUDIO_EXTRACTOR = False
        for key, value in inputs.BACKBONES[self.backbone].items():
            cfg.MODEL.SWIN[key] = value
        cfg.MODEL.PRE_SAM.PRE_SAM_DIM = [cfg.MODEL.SWIN.EMBED_DIM * 2**stage for stage in range(4)]
        torch.manual_seed(inputs.SEED)
        model = build_model(cfg)
        model.audio_backbone.requires_grad_(False)

        def build_trainer(batches: list) -> SimpleTrainer:
            optimizer = importlib.import_module("train_net").Trainer.build_optimizer(cfg, model)
            return (AMPTrainer if amp else SimpleTrainer)(model, batches, optimizer)

        return model, build_trainer

    def state(self, model: nn.Module) -> dict[str, Tensor]:
        """Weights that a forward pass reads, by their published names."""
        return {name: value for name, value in model.state_dict().items() if not name.startswith(_NEVER_RUN)}

    def batch(self, clips: list[dict]) -> list[dict]:
        """Clips in the format of VCT's data mapper."""
        return [self._clip(clip) for clip in clips]

    def _clip(self, clip: dict) -> dict:
        from detectron2.structures import Instances

        instances = []
        for mask in clip["masks"]:
            instance = Instances(tuple(mask.shape))
            instance.gt_classes = torch.tensor([0, 1])
            instance.gt_masks = torch.stack((~mask, mask))
            instances.append(instance)
        return {
            "images": clip["images"],
            "pre_masks": clip["pre_masks"],
            "audio_log_mel": clip["log_mel"],
            "category_label": clip["category"] + 1,
            "instances": instances,
        }

    def maps(self, model: nn.Module, batch: list[dict]) -> Tensor:
        """Semantic maps of all frames: (N, K, 224, 224)."""
        return torch.stack([result["sem_seg"] for result in model(batch)])

    def backbones(self, model: nn.Module, images: Tensor) -> None:
        """Every backbone's forward pass."""
        model.backbone(images)
        if self.pre_mask:
            model.pre_sam_backbone(images)

    def criterion(self, num_clips: int, *, makes_masks: bool) -> tuple[Callable[[], Tensor], list[Tensor]]:
        """The sum of MS3's weighted losses, and the tensors that get a gradient.

        Args:
            num_clips: of five frames.
            makes_masks: whether masks are made of embeddings, as its decoder does, or there beforehand.
        """
        predictions = inputs.make_predictions(num_clips)
        logits = [layer.clone().to(self.device).requires_grad_() for layer in predictions[0]]
        if makes_masks:
            embeds = [layer.clone().to(self.device).requires_grad_() for layer in predictions[1]]
            features = predictions[2].to(self.device).requires_grad_()
            leaves = [*logits, *embeds, features]
        else:
            given = [mask.to(self.device).requires_grad_() for mask in inputs.make_masks(predictions)]
            leaves = [*logits, *given]
        matcher = importlib.import_module("models.modeling.matcher").HungarianMatcher(
            cost_class=2.0, cost_mask=5.0, cost_dice=5.0, num_points=12544
        )
        weights = {"loss_ce": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
        criterion = (
            importlib.import_module("models.modeling.criterion")
            .SetCriterion(
                2,
                matcher=matcher,
                weight_dict=weights,
                eos_coef=0.1,
                losses=["labels", "masks"],
                num_points=12544,
                oversample_ratio=3.0,
                importance_sample_ratio=0.75,
            )
            .to(self.device)
        )
        clips = inputs.make_clips(num_clips, annotated=inputs.FRAMES)
        targets = [
            {
                "labels": torch.tensor([0, 1], device=self.device),
                "masks": torch.stack((~mask, mask)).to(self.device),
            }
            for clip in clips
            for mask in clip["masks"]
        ]

        def total() -> Tensor:
            masks = [torch.einsum("bqc,bchw->bqhw", embed, features) for embed in embeds] if makes_masks else given
            layers = [
                {"pred_logits": layer, "pred_masks": mask} for layer, mask in zip(logits, masks, strict=True)
            ]
            losses = criterion({**layers[-1], "aux_outputs": layers[:-1]}, targets)
            return sum(
                value * weight
                for name, value in losses.items()
                for kind, weight in weights.items()
                if name.startswith(kind)
            )

        return total, leaves

    def f_score(self) -> Callable[[], float]:
        """M_F of one clip."""
        score = importlib.import_module("models.evaluation.sem_seg_evaluation").Eval_Fmeasure
        prob, mask = (part.to(self.device) for part in inputs.make_scored_clip())
        return lambda: score(prob, mask)

    def attention(self, num_clips: int) -> tuple[Callable[[], Tensor], list[Tensor]]:
        """One deformable attention, and the tensors that get a gradient."""
        given = inputs.make_attention(num_clips)
        ops = importlib.import_module("models.modeling.pixel_decoder.ops.modules")
        module = ops.MSDeformAttn(d_model=256, n_levels=3, n_heads=8, n_points=4)
        module.load_state_dict(given["state"])
        module.to(self.device)
        query, memory, reference = (given[name].to(self.device) for name in ("query", "memory", "reference"))
        shapes = torch.tensor(inputs.LEVELS, device=self.device)
        starts = torch.cat((shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]))
        leaves = [query.requires_grad_(), memory.requires_grad_(), *module.parameters()]
        return lambda: module(query, reference, memory, shapes, starts), leaves

    def facts(self) -> dict[str, str]:
        """Which deformable attention runs; on any error in the compiled operator VCT uses its PyTorch path."""
        functions = importlib.import_module("models.modeling.pixel_decoder.ops.functions")
        shapes = torch.tensor([[2, 2]], device=self.device)
        try:
            functions.MSDeformAttnFunction.apply(
                torch.zeros(1, 4, 1, 32, device=self.device),
                shapes,
                shapes.new_zeros(1),
                torch.zeros(1, 1, 1, 1, 4, 2, device=self.device),
                torch.zeros(1, 1, 1, 1, 4, device=self.device),
                128,
            )
        except Exception:  # VCT itself ignores every error of the operator
            return {"VCT's deformable attention": "its PyTorch path"}
        return {"VCT's deformable attention": "its compiled operator"}
