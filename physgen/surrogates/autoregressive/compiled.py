r"""−log p of levels and its gradient in numba, a few sites at a time, which the cache holds.

What :class:`physgen.surrogates.autoregressive.conditional.Stage` has in torch:

    h_0 = film_0(E x + e + place),      film_k(p) = p + γ_k ∘ p + δ_k,
    h_k = h_{k−1} + W_k φ(u_k) + w_k,   u_k = film_k(V_k φ(h_{k−1}) + v_k),
    y   = L φ(h_K) + l + Sᵀ x,          φ(h) = h σ(h),

are the log odds of levels 1 … R against level 0. Where a flip of x is a symmetry, x and y are
multiplied by the sign of most parents.

Shapes: B rows, n sites of any of them, F parents of a site with E numbers each, I = F·E inputs, H
hidden units, K blocks, D components of c. γ_k, δ_k (2H,) and S (I·R,) are two layers of c each,
with T units between them. A layer is its weights and then its biases, one after another. Numbers
are float32, integers int64, all in C order.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from physgen.nn.fast import fast_tanh

__all__ = ["Sizes", "level_slopes"]

Numbers = NDArray[Any]
F32, I64 = np.float32, np.int64
FAST = {"reassoc", "contract", "nsz", "arcp"}
AT_ONCE, SINGLE = 64, 2**18
"""Sites that are looked at together; multiplications of a product above which OpenBLAS may start
threads, which wait for each other for longer than it takes."""


class Sizes(NamedTuple):
    """Sites that the network serves, I, H, K, D, T and R."""

    sites: int
    inputs: int
    hidden: int
    blocks: int
    condition: int
    few: int
    outputs: int


class NetWeights(NamedTuple):
    """Views of the parameters of a network, or of the slopes of a loss by them.

    Attributes:
        place: (sites, H).
        enter: E, e, (H·(I + 1),).
        first: V_k, v_k, (K, H·(H + 1)).
        second: W_k, w_k, (K, H·(H + 1)).
        films: two layers for γ_k, δ_k, (1 + K, T·(D + 1) + 2H·(T + 1)).
        leave: L, l, (R·(H + 1),).
        lines: two layers for S, (T·(D + 1) + I·R·(T + 1),).
    """

    place: Numbers
    enter: Numbers
    first: Numbers
    second: Numbers
    films: Numbers
    leave: Numbers
    lines: Numbers


class Told(NamedTuple):
    """What θ tells, or the slopes of a loss by it.

    Attributes:
        films: γ_k and δ_k, (1 + K, B, 2H).
        lines: S, (B, I·R).
        between: the units between the layers for them, (2 + K, B, T).
        bent: their slopes, (2 + K, B, T).
    """

    films: Numbers
    lines: Numbers
    between: Numbers
    bent: Numbers


class Room(NamedTuple):
    """Room for n sites.

    Attributes:
        row: which row of the batch, (n,).
        site: which site of the network, (n,).
        level: (n,).
        sign: (n,).
        x: (n, I).
        y: log odds, then slopes by them, (n, R).
        h: h_k, then slopes by them, (n, H).
        u: u_k, then slopes by them, (n, H).
        p: what the films are of, (1 + K, n, H).
        phi: φ of h_0, u_1, h_1 …, (1 + 2K, n, H).
        bent: φ′ of these, (1 + 2K, n, H).
        product: of a layer's size.
    """

    row: Numbers
    site: Numbers
    level: Numbers
    sign: Numbers
    x: Numbers
    y: Numbers
    h: Numbers
    u: Numbers
    p: Numbers
    phi: Numbers
    bent: Numbers
    product: Numbers


@njit(nogil=True)
def weights_of(flat: Numbers, sizes: Sizes) -> NetWeights:
    """Views of all parameters (P,), which lie as the network lists them."""
    sites, inputs, hidden, blocks, condition, few, outputs = sizes
    square, film = hidden * (hidden + 1), few * (condition + 1) + 2 * hidden * (few + 1)
    enter = sites * hidden
    first = enter + hidden * (inputs + 1)
    second = first + blocks * square
    films = second + blocks * square
    leave = films + (1 + blocks) * film
    lines = leave + outputs * (hidden + 1)
    return NetWeights(
        flat[:enter].reshape(sites, hidden),
        flat[enter:first],
        flat[first:second].reshape(blocks, square),
        flat[second:films].reshape(blocks, square),
        flat[films:leave].reshape(1 + blocks, film),
        flat[leave:lines],
        flat[lines:],
    )


@njit(nogil=True)
def told_of(rows: int, sizes: Sizes) -> Told:
    """Zeros for what θ tells of so many rows."""
    _, inputs, hidden, blocks, _, few, outputs = sizes
    return Told(
        np.zeros((1 + blocks, rows, 2 * hidden), F32),
        np.zeros((rows, inputs * outputs), F32),
        np.zeros((2 + blocks, rows, few), F32),
        np.zeros((2 + blocks, rows, few), F32),
    )


@njit(nogil=True)
def room_of(n: int, sizes: Sizes) -> Room:
    """Room for n sites."""
    _, inputs, hidden, blocks, _, _, outputs = sizes
    return Room(
        np.empty(n, I64), np.empty(n, I64), np.empty(n, I64), np.empty(n, F32),
        np.empty((n, inputs), F32), np.empty((n, outputs), F32),
        np.empty((n, hidden), F32), np.empty((n, hidden), F32),
        np.empty((1 + blocks, n, hidden), F32),
        np.empty((1 + 2 * blocks, n, hidden), F32), np.empty((1 + 2 * blocks, n, hidden), F32),
        np.empty(hidden * max(inputs, hidden, outputs), F32),
    )  # fmt: skip


# --- layers -------------------------------------------------------------------------------------


@njit(nogil=True)
def layer(flat: Numbers, outputs: int) -> tuple[Numbers, Numbers]:
    """Weights (outputs, inputs) and biases (outputs,) of a layer."""
    n = len(flat) - outputs
    return flat[:n].reshape(outputs, n // outputs), flat[n:]


@njit(nogil=True, fastmath=FAST)
def linear(x: Numbers, flat: Numbers, out: Numbers) -> None:
    """A layer of x (n, I), (n, H)."""
    weight, bias = layer(flat, out.shape[1])
    few = max(1, SINGLE // weight.size)
    for i in range(0, len(x), few):
        np.dot(x[i : i + few], weight.T, out[i : i + few])
    for r in range(len(out)):
        own = out[r]
        for j in range(len(own)):
            own[j] += bias[j]


@njit(nogil=True)
def linear_back(d: Numbers, flat: Numbers, out: Numbers) -> None:
    """Slopes by what a layer takes, (n, I), from those by what it makes, d (n, H)."""
    weight, _ = layer(flat, d.shape[1])
    few = max(1, SINGLE // weight.size)
    for i in range(0, len(d), few):
        np.dot(d[i : i + few], weight, out[i : i + few])


@njit(nogil=True, fastmath=FAST)
def add_slopes(d: Numbers, x: Numbers, product: Numbers, by: Numbers) -> None:
    """Add the slopes by a layer, of those by what it makes, d (n, H), and what it takes, x."""
    weight, bias = layer(by, d.shape[1])
    made = product[: weight.size].reshape(weight.shape)
    few = max(1, SINGLE // weight.size)
    for i in range(0, len(d), few):
        np.dot(d[i : i + few].T, x[i : i + few], made)
        plus(weight, made)
    for r in range(len(d)):
        own = d[r]
        for j in range(len(own)):
            bias[j] += own[j]


@njit(nogil=True, fastmath=FAST, error_model="numpy")
def silu_with_slope(h: Numbers, out: Numbers, bent: Numbers) -> None:
    """φ(h) and φ′(h), (n, H), one of which may take the place of h."""
    h, out, bent = h.reshape(-1), out.reshape(-1), bent.reshape(-1)
    for i in range(len(h)):
        x = h[i]
        sigma = F32(0.5) + F32(0.5) * fast_tanh(F32(0.5) * x)
        out[i] = x * sigma
        bent[i] = sigma + x * sigma * (F32(1) - sigma)


@njit(nogil=True, fastmath=FAST)
def plus(a: Numbers, b: Numbers) -> None:
    """a += b, (n, H) both."""
    a, b = a.reshape(-1), b.reshape(-1)
    for i in range(len(a)):
        a[i] += b[i]


@njit(nogil=True, fastmath=FAST)
def multiply(a: Numbers, b: Numbers) -> None:
    """a *= b, (n, H) both."""
    a, b = a.reshape(-1), b.reshape(-1)
    for i in range(len(a)):
        a[i] *= b[i]


@njit(nogil=True, fastmath=FAST)
def film(p: Numbers, told: Numbers, row: Numbers, out: Numbers) -> None:
    """p + γ ∘ p + δ, (n, H), by γ and δ (B, 2H) of the row of each."""
    hidden = p.shape[1]
    for r in range(len(p)):
        own, there, gain, shift = p[r], out[r], told[row[r], :hidden], told[row[r], hidden:]
        for j in range(hidden):
            there[j] = own[j] + gain[j] * own[j] + shift[j]


@njit(nogil=True, fastmath=FAST)
def film_back(d: Numbers, p: Numbers, told: Numbers, row: Numbers, by: Numbers) -> None:
    """Of d (n, H), slopes by what a film makes, make those by p; add those by γ, δ (B, 2H)."""
    hidden = p.shape[1]
    for r in range(len(d)):
        own, given, gain = d[r], p[r], told[row[r], :hidden]
        by_gain, by_shift = by[row[r], :hidden], by[row[r], hidden:]
        for j in range(hidden):
            by_gain[j] += own[j] * given[j]
            by_shift[j] += own[j]
        for j in range(hidden):
            own[j] += own[j] * gain[j]


@njit(nogil=True)
def two_layers(c: Numbers, flat: Numbers, between: Numbers, bent: Numbers, out: Numbers) -> None:
    """What two layers make of c (B, D), (B, O), by way of units (B, T) and their slopes."""
    cut = between.shape[1] * (c.shape[1] + 1)
    linear(c, flat[:cut], bent)
    silu_with_slope(bent, between, bent)
    linear(between, flat[cut:], out)


@njit(nogil=True)
def two_layers_back(
    d: Numbers, c: Numbers, flat: Numbers, between: Numbers, bent: Numbers, by: Numbers
) -> None:
    """Add the slopes by two layers, of those by what they make, d (B, O)."""
    cut = between.shape[1] * (c.shape[1] + 1)
    product, back = np.empty_like(flat), np.empty_like(between)
    add_slopes(d, between, product, by[cut:])
    linear_back(d, flat[cut:], back)
    multiply(back, bent)
    add_slopes(back, c, product, by[:cut])


# --- sites --------------------------------------------------------------------------------------


@njit(nogil=True)
def choose(room: Room, at: int, which: Numbers, sites: Numbers, values: Numbers) -> None:
    """Take the sites from number `at` on, of those `which` (B, m) or (1, m), row after row."""
    m = which.shape[1]
    for r in range(len(room.row)):
        row = (at + r) // m
        site = which[row % len(which), (at + r) % m]
        room.row[r], room.site[r], room.level[r] = row, site, values[row, sites[site]]


@njit(nogil=True, fastmath=FAST)
def see(room: Room, field: Numbers, parents: Numbers, reference: Numbers) -> None:
    """What the sites see, times their signs; these are 1 where none flips."""
    codes = field.shape[2]
    for r in range(len(room.row)):
        own, near, seen = room.x[r], parents[room.site[r]], field[room.row[r]]
        votes, sign = F32(0), F32(1)
        for f in range(len(near)):
            for e in range(codes):
                own[f * codes + e] = seen[near[f], e]
                votes += seen[near[f], e]
        if len(reference):
            sign = seen[reference[room.site[r]], 0] if votes == 0 else F32(np.sign(votes))
            for f in range(len(own)):
                own[f] *= sign
        room.sign[r] = sign


@njit(nogil=True, fastmath=FAST)
def forward(room: Room, w: NetWeights, told: Told) -> None:
    """The log odds of the sites, but for their signs."""
    p, phi, bent, outputs = room.p, room.phi, room.bent, room.y.shape[1]
    linear(room.x, w.enter, p[0])
    for r in range(len(room.row)):
        own, place = p[0, r], w.place[room.site[r]]
        for j in range(len(own)):
            own[j] += place[j]
    film(p[0], told.films[0], room.row, room.h)
    for k in range(len(w.first)):
        silu_with_slope(room.h, phi[2 * k], bent[2 * k])
        linear(phi[2 * k], w.first[k], p[1 + k])
        film(p[1 + k], told.films[1 + k], room.row, room.u)
        silu_with_slope(room.u, phi[2 * k + 1], bent[2 * k + 1])
        linear(phi[2 * k + 1], w.second[k], room.u)
        plus(room.h, room.u)
    silu_with_slope(room.h, phi[-1], bent[-1])
    linear(phi[-1], w.leave, room.y)
    for r in range(len(room.row)):
        own, line = room.x[r], told.lines[room.row[r]]
        for q in range(outputs):
            total = F32(0)
            for j in range(len(own)):
                total += own[j] * line[j * outputs + q]
            room.y[r, q] += total


@njit(nogil=True, fastmath=FAST, error_model="numpy")
def level_loss(room: Room, scale: float) -> float:
    """The sum of −log p of the levels; `scale` times its slopes take the place of log odds."""
    loss = 0.0
    for r in range(len(room.row)):
        y, sign, level, top = room.y[r], room.sign[r], room.level[r], F32(0)
        for q in range(len(y)):
            y[q] *= sign
            top = max(top, y[q])
        own, total = y[level - 1] if level else F32(0), math.exp(-top)
        for q in range(len(y)):
            y[q] = math.exp(y[q] - top)
            total += y[q]
        loss += float(math.log(total) + top - own)
        for q in range(len(y)):
            y[q] = sign * scale * (y[q] / total - (q + 1 == level))
    return loss


@njit(nogil=True, fastmath=FAST)
def backward(room: Room, w: NetWeights, told: Told, by: NetWeights, by_told: Told) -> None:
    """Add the slopes by weights, and by what θ tells, of those by log odds."""
    p, phi, bent, outputs = room.p, room.phi, room.bent, room.y.shape[1]
    for r in range(len(room.row)):
        own, line = room.x[r], by_told.lines[room.row[r]]
        for q in range(outputs):
            for j in range(len(own)):
                line[j * outputs + q] += own[j] * room.y[r, q]
    add_slopes(room.y, phi[-1], room.product, by.leave)
    linear_back(room.y, w.leave, room.h)
    multiply(room.h, bent[-1])
    for k in range(len(w.first) - 1, -1, -1):
        add_slopes(room.h, phi[2 * k + 1], room.product, by.second[k])
        linear_back(room.h, w.second[k], room.u)
        multiply(room.u, bent[2 * k + 1])
        film_back(room.u, p[1 + k], told.films[1 + k], room.row, by_told.films[1 + k])
        add_slopes(room.u, phi[2 * k], room.product, by.first[k])
        linear_back(room.u, w.first[k], p[1 + k])
        multiply(p[1 + k], bent[2 * k])
        plus(room.h, p[1 + k])
    film_back(room.h, p[0], told.films[0], room.row, by_told.films[0])
    add_slopes(room.h, room.x, room.product, by.enter)
    for r in range(len(room.row)):
        own, place = room.h[r], by.place[room.site[r]]
        for j in range(len(own)):
            place[j] += own[j]


@njit(cache=True, nogil=True)
def level_slopes(
    values: Numbers, field: Numbers, sites: Numbers, parents: Numbers, reference: Numbers,
    which: Numbers, c: Numbers, flat: Numbers, sizes: Sizes, scale: float,
) -> tuple[float, Numbers]:  # fmt: skip
    """−log p of the levels of some sites, and its slopes.

    Args:
        values: levels, (B, N).
        field: their code and a blank one, (B, N + 1, E).
        sites: which of the N the network serves, (sites,).
        parents: what each of them sees, (sites, F).
        reference: the one whose sign counts where votes are equal, (sites,); (0,) if none flips.
        which: numbers among the sites of the network, (B, m) or (1, m).
        c: (B, D).
        flat: all parameters, (P,).
        sizes: of the network.
        scale: by which slopes are multiplied.

    Returns:
        The sum of −log p, and `scale` times its slopes (P,).
    """
    loss, slopes, count = 0.0, np.zeros_like(flat), len(values) * which.shape[1]
    w, by = weights_of(flat, sizes), weights_of(slopes, sizes)
    told, by_told = told_of(len(values), sizes), told_of(len(values), sizes)
    between, bent, films = told.between, told.bent, told.films
    two_layers(c, w.lines, between[-1], bent[-1], told.lines)
    for k in range(len(films)):
        two_layers(c, w.films[k], between[k], bent[k], films[k])
    room = room_of(min(AT_ONCE, count), sizes)
    for at in range(0, count, AT_ONCE):
        if count - at < AT_ONCE:
            room = room_of(count - at, sizes)
        choose(room, at, which, sites, values)
        see(room, field, parents, reference)
        forward(room, w, told)
        loss += level_loss(room, scale)
        backward(room, w, told, by, by_told)
    two_layers_back(by_told.lines, c, w.lines, between[-1], bent[-1], by.lines)
    for k in range(len(films)):
        two_layers_back(by_told.films[k], c, w.films[k], between[k], bent[k], by.films[k])
    return loss, slopes
