"""The order in which sites are drawn, and what each of them is drawn from.

A chain is one or two parts. Its tables hold, for each site, the sites that its network sees (its
*parents*), all of them earlier; where one is missing the table holds N, the number of sites, at
which a padded x is blank.

``raster`` draws row after row. ``checkerboard`` draws one colour of the sites row after row, and
then the other at once, each site given its four neighbours: exact for couplings between nearest
neighbours, in half as many steps.

On a torus with such couplings both orders are Markov in a *frontier*. Of the sites drawn so far
only the last one of each column touches those still to come, and only the first one across the
boundary; so 2 × columns parents say all that the past can say. They are listed in columns relative
to the site's own, so that what a neighbour means is the same everywhere. On a larger torus a
column means what the one at the same distance, on the same side, did on the smaller one; those
beyond meant nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from physgen.nn.blocks import stages_of

__all__ = [
    "ChainPart",
    "columns_like",
    "earlier",
    "frontier",
    "nearest_neighbours",
    "parts",
    "sites_like",
]


@dataclass(frozen=True)
class ChainPart:
    """Sites of a chain that share a network.

    Attributes:
        sites: (n,) numbers of the sites, in their order.
        parents: (n, F) what each is drawn from; N where there is none.
        reference: (n,) one earlier site, close by; N where there is none.
        at_once: whether no site is a parent of another one here.
        torus: rows and columns, of a chain along frontiers; None of any other.
    """

    sites: Tensor
    parents: Tensor
    reference: Tensor
    at_once: bool = False
    torus: tuple[int, int] | None = None


def parts(
    rows: int, columns: int, *, checkerboard: bool, periodic: bool, whole: bool
) -> list[ChainPart]:
    """The one or two parts of a chain.

    Args:
        rows: rows of the lattice.
        columns: columns of the lattice.
        checkerboard: whether one colour comes first; else raster.
        periodic: whether the lattice is a torus.
        whole: whether the parents are all earlier sites; else the frontier.
    """
    colour = stages_of((rows, columns), 1 + checkerboard)
    chain = (colour == 0).nonzero().flatten()
    parents = earlier(chain, len(colour)) if whole else frontier(rows, columns, chain)
    before = torch.cat([torch.tensor([len(colour)]), chain[:-1]])
    torus = None if whole else (rows, columns)
    found = [ChainPart(chain, parents, before, torus=torus)]
    if len(chain) < len(colour):
        rest = (colour == 1).nonzero().flatten()
        around = nearest_neighbours(rows, columns, periodic)[rest]
        early = torch.isin(around, chain)  # across an odd side two of one colour meet
        around = torch.where(early, around, len(colour))
        found.append(ChainPart(rest, around, around.min(1).values, at_once=True, torus=torus))
    return found


def frontier(rows: int, columns: int, chain: Tensor) -> Tensor:
    """The last and the first site of each column before each site of a chain, (n, 2·columns)."""
    last = torch.full((columns,), rows * columns)
    first = last.clone()
    table = torch.empty(len(chain), 2 * columns, dtype=torch.long)
    for row, site in zip(table, chain.tolist(), strict=True):
        column = site % columns
        row[:columns] = last.roll(-column)
        row[columns:] = first.roll(-column)
        last[column] = site
        first[column] = min(site, int(first[column]))
    return table


def columns_like(old: int, new: int) -> Tensor:
    """What a column of a frontier, relative to a site's own, has of each old one, (new, old).

    One half way around lies on both sides.
    """
    step = torch.arange(old)
    right = ((old - 2 * step).sign() + 1) / 2
    found = torch.zeros(new, old)
    found.index_put_((step % new, step), right, accumulate=True)
    return found.index_put_(((step - old) % new, step), 1 - right, accumulate=True)


def sites_like(old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """The site of an old torus that each site of a new one is like, (rows·columns,).

    It is as far from the first or last row and column; in the middle it is of the same colour.
    """
    row, column = (positions_like(*pair) for pair in zip(old, new, strict=True))
    return (old[1] * row[:, None] + column).flatten()


def positions_like(old: int, new: int) -> Tensor:
    """The position along an old axis that each one along a new one is like, (new,)."""
    at, half = torch.arange(new), min(old, new) // 2
    middle = half - (half - at) % 2
    return torch.where(at < half, at, torch.where(at >= new - half, at - new + old, middle))


def earlier(chain: Tensor, none: int) -> Tensor:
    """All sites before each site of a chain, the one before it first, (n, max(1, n − 1))."""
    n = len(chain)
    back = torch.arange(n)[:, None] - torch.arange(1, max(2, n))
    return torch.where(back >= 0, chain[back.clamp(min=0)], none)


def nearest_neighbours(rows: int, columns: int, periodic: bool) -> Tensor:
    """Above, left, right and below each site, (rows·columns, 4)."""
    site = torch.arange(rows * columns).view(1, rows, columns)
    if periodic:
        wide = torch.cat([site[:, -1:], site, site[:, :1]], 1)
        wide = torch.cat([wide[..., -1:], wide, wide[..., :1]], 2)
    else:
        wide = F.pad(site, (1, 1, 1, 1), value=rows * columns)
    around = [wide[:, :-2, 1:-1], wide[:, 1:-1, :-2], wide[:, 1:-1, 2:], wide[:, 2:, 1:-1]]
    return torch.cat(around).flatten(1).T.contiguous()
