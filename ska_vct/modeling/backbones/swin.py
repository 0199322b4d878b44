"""Swin Transformer (Liu et al., ICCV 2021): Detectron2's network with fused window attention.

Detectron2's implementation equals the published one at every input size (tests/modeling/test_backbones.py). Only
its blocks are replaced: the same arithmetic with PyTorch's scaled-dot-product kernel, which stores about half
as much in training.
"""

import torch
import torch.nn.functional as F
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone.swin import SwinTransformer, SwinTransformerBlock, WindowAttention
from torch import Tensor, nn

from ..layers.checkpoint import compute_again
from .named import STRIDES, NamedBackbone


class FusedWindowAttention(WindowAttention):
    """Window attention that never materialises its weights; parameters and results are its parent's."""

    # In inference: the table the bias was made of, how often it had been written, and the bias.
    _kept: tuple[Tensor, int, Tensor] | None = None

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend within windows.

        Args:
            x: (B * windows, n, C) with n = pixels of a window.
            mask: (windows, n, n), 0 or -100, for shifted windows.

        Returns:
            (B * windows, n, C).
        """
        return self.attend(self.qkv(x), mask)

    def attend(self, qkv: Tensor, mask: Tensor | None) -> Tensor:
        """The same from queries, keys and values (B * windows, n, 3 * C)."""
        total, n, triple = qkv.shape
        dim = triple // 3
        bias = self._bias(n)  # 1, heads, n, n
        if mask is not None:
            bias = bias + mask[:, None]  # windows, heads, n, n
        windows = bias.shape[0]
        # Windows join the heads, so that one bias serves every image of the batch.
        q, k, v = (
            qkv.view(total // windows, windows, n, 3, self.num_heads, dim // self.num_heads)
            .permute(3, 0, 1, 4, 2, 5)
            .reshape(3, total // windows, windows * self.num_heads, n, dim // self.num_heads)
        )
        dropout = self.attn_drop.p if self.training else 0.0
        out = F.scaled_dot_product_attention(
            q, k, v, attn_mask=bias.reshape(1, -1, n, n).to(q.dtype), dropout_p=dropout, scale=self.scale
        )
        out = out.view(total, self.num_heads, n, -1).transpose(1, 2).reshape(total, n, dim)
        return self.proj_drop(self.proj(out))

    def _bias(self, n: int) -> Tensor:
        """Bias of each pair of a window's n pixels (1, heads, n, n); kept in inference until the table changes."""
        table = self.relative_position_bias_table
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling() or table.is_inference():
            self._kept = None
            return self._make_bias(n)
        # Every write to the table counts its version up. Other memory means another table, since ours is held.
        if self._kept is None or (self._kept[0].data_ptr(), self._kept[1]) != (table.data_ptr(), table._version):
            self._kept = table.detach(), table._version, self._make_bias(n).contiguous()
        return self._kept[2]

    def _make_bias(self, n: int) -> Tensor:
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)].view(n, n, -1)
        return bias.permute(2, 0, 1)[None]


class OpenBlock(SwinTransformerBlock):
    """Swin block in whole numbers, so that a compiled or exported graph leaves the number of frames open."""

    def forward(self, x: Tensor, mask_matrix: Tensor) -> Tensor:
        """Attend within windows, every other time shifted ones, then the feed-forward block.

        Args:
            x: (B, H * W, C); H and W are attributes.
            mask_matrix: (windows, n, n), see ``FusedWindowAttention``.

        Returns:
            (B, H * W, C).
        """
        height, width, size, shift = self.H, self.W, self.window_size, self.shift_size
        frames, _, dim = x.shape
        rows, columns = -(-height // size), -(-width // size)

        def qkv_of_windows(x: Tensor) -> Tensor:
            grid = self.norm1(x).view(frames, height, width, dim)
            grid = F.pad(grid, (0, 0, 0, -width % size, 0, -height % size))
            if shift:
                grid = grid.roll((-shift, -shift), (1, 2))
            windows = grid.view(frames, rows, size, columns, size, dim).transpose(2, 3)
            return self.attn.qkv(windows.reshape(-1, size * size, dim))

        # What norms, copies, activations and the attention itself make is not kept for the backward pass.
        qkv = compute_again(self, qkv_of_windows, x)
        mask = mask_matrix if shift else None
        windows = compute_again(self, self.attn.attend, qkv, mask, noise=self.attn.attn_drop.p > 0)
        grid = windows.view(frames, rows, columns, size, size, dim).transpose(2, 3)
        grid = grid.reshape(frames, rows * size, columns * size, dim)
        if shift:
            grid = grid.roll((shift, shift), (1, 2))
        x = x + self.drop_path(grid[:, :height, :width].reshape(frames, height * width, dim))
        hidden = compute_again(self, lambda x: self.mlp.fc1(self.norm2(x)), x)
        return x + self.drop_path(compute_again(self, self._second_half, hidden, noise=self.mlp.drop.p > 0))

    def _second_half(self, hidden: Tensor) -> Tensor:
        """Of the feed-forward block."""
        mlp = self.mlp
        return mlp.drop(mlp.fc2(mlp.drop(mlp.act(hidden))))


class SwinBackbone(NamedBackbone):
    """Swin Transformer whose outputs are named res2..res5, each through its own LayerNorm over channels."""

    def __init__(self, *, checkpoint: bool = False, **kwargs):
        """
        Args:
            checkpoint: in training store only the inputs of blocks and recompute the rest.
            kwargs: keyword arguments of Detectron2's ``SwinTransformer``.
        """
        network = SwinTransformer(**kwargs)
        # VCT leaves PyTorch's initial values where Detectron2 draws normal ones; pretrained weights replace both.
        for module in network.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
        for layer in network.layers:
            for block in layer.blocks:
                block.__class__ = OpenBlock
                block.attn.__class__ = FusedWindowAttention
        super().__init__(network, network.num_features, checkpoint=checkpoint)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W) -> {res2..res5: (N, channels, ceil(H / stride), ceil(W / stride))}."""
        return dict(zip(STRIDES, self.network(images).values(), strict=True))


@BACKBONE_REGISTRY.register()
def build_swin_backbone(cfg, input_shape: ShapeSpec) -> SwinBackbone:
    """Swin of ``cfg.MODEL.SWIN``."""
    node = cfg.MODEL.SWIN
    return SwinBackbone(
        pretrain_img_size=node.PRETRAIN_IMG_SIZE,
        patch_size=node.PATCH_SIZE,
        in_chans=input_shape.channels,
        embed_dim=node.EMBED_DIM,
        depths=node.DEPTHS,
        num_heads=node.NUM_HEADS,
        window_size=node.WINDOW_SIZE,
        mlp_ratio=node.MLP_RATIO,
        qkv_bias=node.QKV_BIAS,
        ape=node.APE,
        patch_norm=node.PATCH_NORM,
        drop_path_rate=node.DROP_PATH_RATE,
        frozen_stages=cfg.MODEL.BACKBONE.FREEZE_AT,
        checkpoint=cfg.MODEL.BACKBONE.CHECKPOINT,
    )
