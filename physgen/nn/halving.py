"""A line of n cells, cut in half again and again until each piece is one cell."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["HalvingLevel", "halvings"]


class HalvingLevel(nn.Module):
    """One level: which of its P pieces are cut, and where.

    Args:
        pieces: first cell and last cell + 1 of each piece.

    Attributes:
        cut: (S,) the pieces that are cut, those of more than one cell.
        ends: first cell, first cell of the right half, and last cell + 1 of what is cut.
        after: pieces of the next level.
    """

    cut: Tensor
    order: Tensor
    first: Tensor

    def __init__(self, pieces: list[tuple[int, int]]) -> None:
        super().__init__()
        self.pieces = pieces
        cut = [i for i, (start, stop) in enumerate(pieces) if stop - start > 1]
        self.ends = [(pieces[i][0], sum(pieces[i]) // 2, pieces[i][1]) for i in cut]
        every = [*pieces, *((a, m) for a, m, _ in self.ends), *((m, b) for _, m, b in self.ends)]
        left = (i for i in range(len(every)) if i not in cut)
        order = sorted(left, key=lambda i: every[i])
        self.after = [every[i] for i in order]
        self.register_buffer("cut", torch.tensor(cut), persistent=False)
        self.register_buffer("order", torch.tensor(order), persistent=False)
        starts = [start for start, _ in self.after]
        first = [starts.index(start) for start, _ in pieces]
        self.register_buffer("first", torch.tensor(first), persistent=False)

    def split(self, pieces: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """The next level's pieces (..., P′) of those of this one (..., P) and their halves.

        Args:
            pieces: (..., P).
            left: (..., S) left halves of what is cut.
            right: (..., S) right halves.
        """
        return torch.cat([pieces, left, right], -1)[..., self.order]

    def joined(self, pieces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What `split` was given, of sums over pieces of the next level (..., P′).

        Returns:
            pieces (..., P), and the left and the right halves (..., S) of what is cut.
        """
        halves = pieces[..., self.first[self.cut]], pieces[..., self.first[self.cut] + 1]
        return pieces[..., self.first].index_add(-1, self.cut, halves[1]), *halves


def halvings(n: int) -> list[HalvingLevel]:
    """The levels of n cells, ⌈log₂ n⌉ of them, each with pieces of about one size."""
    pieces, levels = [(0, n)], []
    while len(pieces) < n:
        levels.append(HalvingLevel(pieces))
        pieces = levels[-1].after
    return levels
