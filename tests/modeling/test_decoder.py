"""The decoder's masked attention, and position embeddings."""

import torch
import torch.nn.functional as F

from ska_vct.modeling.layers import sine_position_embedding
from ska_vct.modeling.transformer_decoder import MaskedTransformerDecoder


def allowed(masks):
    """Of mask logits (N, Q, L) themselves: with one feature per place, the embedding is the mask."""
    return MaskedTransformerDecoder.allowed(masks, torch.eye(masks.shape[-1])[None])


def test_a_query_reads_inside_its_mask_or_everywhere():
    masks = torch.tensor([[[5.0, 5.0, -5.0, -5.0], [-5.0, -5.0, -5.0, -5.0]]])
    assert allowed(masks)[0].tolist() == [[True, True, False, False], [True] * 4]


def test_one_half_counts_as_inside():
    assert allowed(torch.zeros(1, 1, 4)).all()
    assert allowed(torch.tensor([[[0.0, -1.0, -1.0]]])).flatten().tolist() == [True, False, False]


def test_masks_made_small_at_once_equal_resized_masks():
    torch.manual_seed(0)
    embed, features = torch.randn(2, 3, 8, dtype=torch.float64), torch.randn(2, 8, 12, 16, dtype=torch.float64)
    masks = torch.einsum("nqc,nchw->nqhw", embed, features)
    wanted = F.interpolate(masks, size=(3, 4), mode="bilinear", align_corners=False).flatten(2)
    small = F.interpolate(features, size=(3, 4), mode="bilinear", align_corners=False).flatten(2)
    assert torch.allclose(embed @ small, wanted, atol=1e-12)


def test_last_prediction_does_not_depend_on_keeping_the_others():
    torch.manual_seed(0)
    decoder = MaskedTransformerDecoder(
        dim=16, mask_dim=16, num_classes=2, num_queries=3, num_layers=6, num_heads=4, feedforward_dim=16
    ).eval()
    inputs = (
        torch.randn(2, 3, 16),
        torch.randn(2, 16, 6, 4),
        [torch.randn(2, 16, s, s) for s in (2, 4, 8)],
        torch.randn(2, 16, 16, 16),
    )
    with torch.no_grad():
        full, last = decoder(*inputs, all_layers=True), decoder(*inputs, all_layers=False)
    assert len(full) == 7 and len(last) == 1
    assert torch.equal(full.masks(-1), last.masks(0)) and torch.equal(full.logits[-1], last.logits[0])


def test_position_embedding_tells_rows_from_columns():
    pos = sine_position_embedding(3, 5, 16, torch.device("cpu"))
    assert pos.shape == (1, 16, 3, 5)
    assert torch.equal(pos[:, :8, :, 0], pos[:, :8, :, 4]) and torch.equal(pos[:, 8:, 0], pos[:, 8:, 2])
    assert len({tuple(v) for v in pos[0].flatten(1).t().tolist()}) == 15
