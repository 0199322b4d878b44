"""The decoder's masked attention, and position embeddings."""

import torch

from ska_vct.modeling.layers import sine_position_embedding
from ska_vct.modeling.transformer_decoder import MaskedTransformerDecoder


def test_a_query_reads_inside_its_mask_or_everywhere():
    masks = torch.full((1, 2, 4, 4), -5.0)
    masks[0, 0, :2] = 5.0  # upper half; the second query's mask is empty
    allowed = MaskedTransformerDecoder.allowed(masks, (2, 2))
    assert allowed[0].tolist() == [[True, True, False, False], [True] * 4]


def test_one_half_counts_as_inside():
    assert MaskedTransformerDecoder.allowed(torch.zeros(1, 1, 2, 2), (2, 2)).all()
    masks = torch.tensor([[[[0.0, -1.0], [-1.0, -1.0]]]])
    assert MaskedTransformerDecoder.allowed(masks, (2, 2)).flatten().tolist() == [True, False, False, False]


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
    assert len(full.masks) == 7 and len(last.masks) == 1
    assert torch.equal(full.masks[-1], last.masks[0]) and torch.equal(full.logits[-1], last.logits[0])


def test_position_embedding_tells_rows_from_columns():
    pos = sine_position_embedding(3, 5, 16, torch.device("cpu"))
    assert pos.shape == (1, 16, 3, 5)
    assert torch.equal(pos[:, :8, :, 0], pos[:, :8, :, 4]) and torch.equal(pos[:, 8:, 0], pos[:, 8:, 2])
    assert len({tuple(v) for v in pos[0].flatten(1).t().tolist()}) == 15
