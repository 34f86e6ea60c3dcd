"""A line of n cells, cut in half again and again until each piece is one cell."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["HalvingLevel", "descended", "halvings"]


class HalvingLevel(NamedTuple):
    """One level: which pieces are cut, and what becomes of them.

    Attributes:
        cut: (S,) the pieces that are cut, those of more than one cell.
        order: (P,) the next level's pieces, among all pieces, the left halves and the right ones.
        ends: (S, 3) first cell, first cell of the right half, and last cell + 1 of what is cut.
    """

    cut: Tensor
    order: Tensor
    ends: Tensor


def halvings(n: int) -> list[HalvingLevel]:
    """The levels of n cells, ⌈log₂ n⌉ of them, each with pieces of about one size."""
    pieces, levels = [(0, n)], []
    while any(stop - start > 1 for start, stop in pieces):
        cut = [i for i, (start, stop) in enumerate(pieces) if stop - start > 1]
        ends = [(pieces[i][0], (pieces[i][0] + pieces[i][1]) // 2, pieces[i][1]) for i in cut]
        halves = [(a, m) for a, m, _ in ends] + [(m, b) for _, m, b in ends]
        every = pieces + halves
        order = [i for i in range(len(every)) if i not in cut]
        order.sort(key=lambda i: every[i])
        pieces = [every[i] for i in order]
        levels.append(HalvingLevel(*(torch.tensor(v) for v in (cut, order, ends))))
    return levels


def descended(pieces: Tensor, left: Tensor, right: Tensor, level: HalvingLevel) -> Tensor:
    """The next level's pieces (..., P′) of those of a level (..., P) and of its halves (..., S)."""
    return torch.cat([pieces, left, right], -1)[..., level.order.to(pieces.device)]
