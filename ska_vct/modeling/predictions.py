"""The decoder's predictions; masks are computed on demand.

A mask is a query's embedding times the mask features. Only matched queries carry a mask loss, two of a hundred on
S4 and MS3, so the others' masks are never part of the graph.

Shape legend: P predictions, N frames, Q queries, K classes, D mask width, h x w mask features, T matched pairs.
"""

from dataclasses import dataclass

from torch import Tensor

from .losses.matcher import Assignment


@dataclass(frozen=True)
class Predictions:
    """Predictions before the first decoder layer and after each: P = layers + 1, the last is the result.

    Attributes:
        logits: (P, N, Q, K + 1), the last class is "no object".
        mask_embeds: (P, N, Q, D).
        mask_features: (N, D, h, w).
    """

    logits: Tensor
    mask_embeds: Tensor
    mask_features: Tensor

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def mask_size(self) -> tuple[int, int]:
        """(h, w)."""
        return tuple(self.mask_features.shape[-2:])

    def last(self) -> "Predictions":
        """Only the last prediction, the result."""
        return Predictions(self.logits[-1:], self.mask_embeds[-1:], self.mask_features)

    def masks(self, index: int) -> Tensor:
        """Mask logits of all queries of one prediction: (N, Q, h, w), stored channels last."""
        masks = self.mask_features.flatten(2).transpose(1, 2) @ self.mask_embeds[index].transpose(1, 2)
        return masks.transpose(1, 2).unflatten(-1, self.mask_size)

    def matched_masks(self, pairs: Assignment) -> Tensor:
        """Mask logits of only the matched queries, in the order of the pairs: (T, h, w)."""
        embeds = self.mask_embeds[pairs.prediction, pairs.frame, pairs.query]
        # All pairs of a frame in one product with its features, which are not copied per pair.
        block = embeds.new_zeros(len(self.mask_features), pairs.num_slots, embeds.shape[-1])
        block = block.index_put((pairs.frame, pairs.slot), embeds)
        masks = block @ self.mask_features.flatten(2)
        return masks[pairs.frame, pairs.slot].unflatten(-1, self.mask_size)
