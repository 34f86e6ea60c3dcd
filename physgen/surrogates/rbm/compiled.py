r"""The RBM in numba: Gibbs sweeps, the contrastive gradient, and whole steps of a training.

With a = d + g W·v the free energy F = −b·v − Σ log 2cosh a has ∂F/∂g = −tanh(a) W·v, ∂F/∂d =
−tanh a, ∂F/∂b = −v and ∂F/∂W = −g tanh(a) vᵀ; contrastive divergence (Hinton 2002) is the mean of
these over the data less that over the chains.

Shapes: B rows, N spins, H hidden units, C gains of H / C units each. Rows come last, so that loops
over them become vectors; all is float32 in C order, and what vanishes is (0, 0). W is a matrix
(H, N) with `near` (0, 0), or C filters of k² places (C, k²) on a torus, with `near` (k², N), the
site that lies at each place of a filter on each site.

Random bits are *squares* (Widynski, arXiv:2004.06278) of a counter, whose start torch's generator
has drawn: a function of the place, so that they too become vectors.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from physgen.nn.descent import Descent, descended
from physgen.nn.fast import fast_tanh

__all__ = ["climbed", "contrast", "fast_exp", "random_bits", "steps", "swept"]

Numbers = NDArray[Any]
F32 = np.float32
U64 = np.uint64
FAST = {"reassoc", "contract", "nsz", "arcp"}
UNIT = F32(2.0**-31)
"""int32 to [−1, 1)."""
LEAST, MOST, AT_ONCE = 32, 128, 2**17
"""Rows that are looked at together, and hidden units × rows, so that they stay in the cache."""
FACTORS = 64
"""Factors in [½, 1] of a product that float32 holds."""
KEY = U64(0x548C9DECBCE65297)
"""Of the squares, as their author made it."""


@njit(cache=True, nogil=True)
def random_bits(counter: int, rows: int, columns: int) -> Numbers:
    """Random int32 of all values, (rows, columns), of a counter and those that follow it."""
    out, half = np.empty(rows * columns, np.uint32), U64(32)
    for i in range(len(out)):
        y = U64(counter + i) * KEY
        x = y * y + y
        x = (x >> half) | (x << half)
        x = x * x + (y + KEY)
        x = (x >> half) | (x << half)
        x = x * x + y
        x = (x >> half) | (x << half)
        out[i] = (x * x + (y + KEY)) >> half
    return out.view(np.int32).reshape(rows, columns)


@njit(cache=True, nogil=True, fastmath=FAST)
def up(v: Numbers, w: Numbers, near: Numbers) -> Numbers:
    """W·v (H, B) of v (N, B)."""
    if not len(near):
        return w @ v
    places, sites = near.shape
    u = np.zeros((len(w) * sites, v.shape[1]), np.float32)
    for f in range(len(w)):
        for i in range(sites):
            own = u[f * sites + i]
            for p in range(places):
                weight, spin = w[f, p], v[near[p, i]]
                for row in range(len(own)):
                    own[row] += weight * spin[row]
    return u


@njit(cache=True, nogil=True, fastmath=FAST)
def down(h: Numbers, w: Numbers, near: Numbers) -> Numbers:
    """Wᵀ·h (N, B) of h (H, B): a filter seen from a spin is turned round."""
    if not len(near):
        return w.T @ h
    places, sites = near.shape
    a = np.zeros((sites, h.shape[1]), np.float32)
    for i in range(sites):
        own = a[i]
        for f in range(len(w)):
            for p in range(places):
                weight, unit = w[f, p], h[f * sites + near[places - 1 - p, i]]
                for row in range(len(own)):
                    own[row] += weight * unit[row]
    return a


@njit(cache=True, nogil=True, fastmath=FAST)
def outer(t: Numbers, v: Numbers, w: Numbers, near: Numbers) -> Numbers:
    """t vᵀ summed over rows as W is written, of t (H, B) and v (N, B)."""
    if not len(near):
        return t @ v.T
    places, sites = near.shape
    out = np.zeros_like(w)
    for f in range(len(w)):
        for p in range(places):
            total = F32(0)
            for i in range(sites):
                unit, spin = t[f * sites + i], v[near[p, i]]
                for row in range(len(unit)):
                    total += unit[row] * spin[row]
            out[f, p] = total
    return out


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def means(u: Numbers, g: Numbers, d: Numbers) -> tuple[Numbers, Numbers]:
    """Means tanh a of hidden units (H, B) from u = W·v, and Σ log 2cosh a (B,) float64."""
    t, total = np.empty_like(u), np.zeros(u.shape[1])
    size, product = np.zeros((2, u.shape[1]), np.float32)
    product[:] = 1
    share = len(u) // len(g)
    for j in range(len(u)):
        own, seen, gain = t[j], u[j], g[j // share]
        for row in range(len(own)):
            a = gain[row] * seen[row]
            if len(d):
                a += d[j, row]
            own[row] = fast_tanh(a)  # log 2cosh a = |a| − log (1 + tanh |a|)/2
            size[row] += abs(a)
            product[row] *= F32(0.5) + F32(0.5) * abs(own[row])
        if j % FACTORS == FACTORS - 1 or j == len(u) - 1:
            for row in range(len(total)):
                total[row] += size[row] - math.log(product[row])
                size[row], product[row] = 0, 1
    return t, total


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def moved(t: Numbers, w: Numbers, near: Numbers, g: Numbers, b: Numbers, bits: Numbers) -> Numbers:
    """Spins (N, B) of one sweep from means t (H, B) of hidden units, by random bits (H + N, B)."""
    h, share = np.empty_like(t), len(t) // len(g)
    for j in range(len(t)):
        own, mean, noise, gain = h[j], t[j], bits[j], g[j // share]
        for row in range(len(own)):
            own[row] = gain[row] if mean[row] > UNIT * noise[row] else -gain[row]
    a = down(h, w, near)
    for i in range(len(a)):
        own, noise = a[i], bits[len(t) + i]
        for row in range(len(own)):
            field = own[row]
            if len(b):
                field += b[i, row]
            own[row] = F32(1) if fast_tanh(field) > UNIT * noise[row] else F32(-1)
    return a


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def swept(
    v: Numbers, w: Numbers, near: Numbers, g: Numbers, d: Numbers, b: Numbers,
    sweeps: int, counter: int,
) -> tuple[Numbers, Numbers]:  # fmt: skip
    """Sweeps of block Gibbs sampling, all hidden units and then all spins.

    Args:
        v: where to start, (N, B) of ±1.
        w: W, (H, N) or (C, k²).
        near: sites at the places of filters, (k², N) or (0, 0).
        g: gains, (C, B).
        d: shifts of hidden units, (H, B) or (0, 0).
        b: biases of spins, (N, B) or (0, 0).
        sweeps: how many.
        counter: of the random bits, of which a sweep takes (H + N) · B.

    Returns:
        spins (N, B) at the end, and −Σ log 2cosh a − b·v before each sweep, (sweeps, B).
    """
    series = np.empty((sweeps, v.shape[1]), np.float32)
    for k in range(sweeps):
        t, total = means(up(v, w, near), g, d)
        for row in range(len(total)):
            for i in range(len(b)):
                total[row] += b[i, row] * v[i, row]
            series[k, row] = -total[row]
        bits = random_bits(counter, len(t) + len(v), v.shape[1])
        v = moved(t, w, near, g, b, bits)
        counter += bits.size
    return v, series


@njit(cache=True, nogil=True)
def rows_at_once(units: int) -> int:
    """How many rows are looked at together."""
    return min(MOST, max(LEAST, AT_ONCE // units))


@njit(cache=True, nogil=True)
def dealt_out(a: Numbers, each: int, first: int, last: int) -> Numbers:
    """Columns `first` to `last` of a (n, K) each of whose columns is repeated `each` times."""
    out = np.empty((len(a), last - first), np.float32)
    for j in range(len(a)):
        for row in range(first, last):
            out[j, row - first] = a[j, row // each]
    return out


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def climbed(
    v: Numbers, w: Numbers, near: Numbers, g: Numbers, d: Numbers, b: Numbers, counter: int
) -> tuple[Numbers, Numbers]:
    """Chains that follow a path of coefficients, a sweep at each of its points but the first.

    Args:
        v: where to start, (N, K · M): M chains at each of K places, one place after another.
        w: as in `swept`.
        near: likewise.
        g: gains along the path, (T + 1, C, K).
        d: shifts of hidden units, (T + 1, H, K) or (T + 1, 0, 0).
        b: biases of spins, (T + 1, N, K) or (T + 1, 0, 0).
        counter: of the random bits.

    Returns:
        spins (N, K · M), and Σ_t F_{t−1}(v) − F_t(v) of each chain, (K · M,).
    """
    out, gained = np.empty_like(v), np.zeros(v.shape[1])
    each, units = v.shape[1] // g.shape[2], len(w) * max(1, near.shape[1])
    at_once = rows_at_once(units)
    for first in range(0, v.shape[1], at_once):
        last = min(first + at_once, v.shape[1])
        s, gains = v[:, first:last].copy(), dealt_out(g[0], each, first, last)
        shifts, pulls = dealt_out(d[0], each, first, last), dealt_out(b[0], each, first, last)
        for k in range(1, len(g)):
            u = up(s, w, near)
            _, before = means(u, gains, shifts)
            gains = dealt_out(g[k], each, first, last)
            shifts, past = dealt_out(d[k], each, first, last), pulls
            pulls = dealt_out(b[k], each, first, last)
            t, after = means(u, gains, shifts)
            for row in range(last - first):
                gained[first + row] += after[row] - before[row]
                for i in range(len(pulls)):
                    gained[first + row] += (pulls[i, row] - past[i, row]) * s[i, row]
            bits = random_bits(counter, units + len(s), last - first)
            counter += bits.size
            s = moved(t, w, near, gains, pulls, bits)
        for i in range(len(s)):
            for row in range(first, last):
                out[i, row] = s[i, row - first]
    return out, gained


@njit(cache=True, nogil=True, fastmath=FAST)
def slopes(
    t: Numbers, u: Numbers, v: Numbers, w: Numbers, near: Numbers, g: Numbers
) -> tuple[Numbers, Numbers]:
    """−∂F/∂g (C, B), and −∂F/∂W summed over rows, of means t of hidden units and u = W·v."""
    dg, share, pulled = np.zeros_like(g), len(t) // len(g), np.empty_like(t)
    for j in range(len(t)):
        own, mean, seen, gain, out = dg[j // share], t[j], u[j], g[j // share], pulled[j]
        for row in range(len(own)):
            own[row] += mean[row] * seen[row]
            out[row] = mean[row] * gain[row]
    return dg, outer(pulled, v, w, near)


@njit(cache=True, nogil=True)
def less(a: Numbers, b: Numbers) -> None:
    """a −= b, (n, m) both."""
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            a[i, j] -= b[i, j]


@njit(cache=True, nogil=True)
def scaled_by(a: Numbers, b: Numbers) -> None:
    """a *= b, (n, m) both."""
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            a[i, j] *= b[i, j]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def contrast(
    v: Numbers, model: Numbers, w: Numbers, near: Numbers, g: Numbers, d: Numbers, b: Numbers,
    sweeps: int, counter: int,
) -> tuple[Numbers, Numbers, Numbers, Numbers, Numbers]:  # fmt: skip
    """Spins of the chains, F(data) − F(chains) but for b, and its derivatives.

    Args:
        v: data, (N, B).
        model: spins of the chains (N, B), or (0, 0) for chains that start from the data.
        w: as in `swept`, and so are those below.
        near: sites at the places of filters.
        g: gains.
        d: shifts of hidden units.
        b: biases of spins.
        sweeps: from the data.
        counter: of the random bits of these.

    Returns:
        spins s (N, B), the difference (B,), its derivatives by g (C, B), by d (H, B) and, summed
        over rows, by W. To the difference b·(s − v) is to be added; its derivative is s − v.
    """
    u = up(v, w, near)
    t, value = means(u, g, d)
    s = model
    if not len(model):
        bits = random_bits(counter, len(t) + len(v), v.shape[1])
        s = moved(t, w, near, g, b, bits)
        if sweeps > 1:
            s, _ = swept(s, w, near, g, d, b, sweeps - 1, counter + bits.size)
    u_s = up(s, w, near)
    t_s, value_s = means(u_s, g, d)
    dg, dw = slopes(t_s, u_s, s, w, near, g)
    dg_v, dw_v = slopes(t, u, v, w, near, g)
    less(t_s, t)
    less(dg, dg_v)
    less(dw, dw_v)
    for row in range(len(value)):
        value[row] = value_s[row] - value[row]
    return s, value, dg, t_s, dw


# --- steps of a training ----------------------------------------------------------------------


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def fast_exp(a: Numbers, b: Numbers) -> None:
    """Replace a (n, B) by exp(a + b), b (n,), to 2e-7 between e^−80 and e^80, as Cephes does."""
    whole = np.empty(a.shape[1], np.int32)
    power = whole.view(np.float32)
    for j in range(len(a)):
        own, more = a[j], b[j]
        for i in range(len(own)):
            x = min(max(own[i] + more, F32(-80)), F32(80))
            n = np.floor(x * F32(1.44269504) + F32(0.5))
            x = x - n * F32(0.693359375) + n * F32(2.12194440e-4)
            p = F32(1.9875691500e-4) * x + F32(1.3981999507e-3)
            p = p * x + F32(8.3334519073e-3)
            p = p * x + F32(4.1665795894e-2)
            p = p * x + F32(1.6666665459e-1)
            p = p * x + F32(5.0000001201e-1)
            own[i] = p * x * x + x + F32(1)
            whole[i] = (np.int32(n) + np.int32(127)) << np.int32(23)
        for i in range(len(own)):
            own[i] *= power[i]


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def silu(h: Numbers, b: Numbers) -> Numbers:
    """Replace h (n, B) by x σ(x) of x = h + b, b (n,), and return its slope (n, B)."""
    slope = np.empty_like(h)
    for k in range(len(h)):
        own, out, more = h[k], slope[k], b[k]
        for row in range(len(own)):
            x = own[row] + more
            sigma = F32(0.5) + F32(0.5) * fast_tanh(F32(0.5) * x)
            own[row] = x * sigma
            out[row] = sigma + own[row] * (F32(1) - sigma)
    return slope


@njit(cache=True, nogil=True, fastmath=FAST)
def layer_slopes(back: Numbers, given: Numbers, out: Numbers) -> int:
    """Add to `out` the derivatives by the weights (n, m) and the biases of a layer; their number.

    Args:
        back: derivatives by what it makes, (n, B).
        given: what it was given, (m, B).
        out: where they lie one after another, from its beginning.
    """
    n, m = len(back), len(given)
    for i in range(n):
        for j in range(m):
            for row in range(back.shape[1]):
                out[i * m + j] += back[i, row] * given[j, row]
        for row in range(back.shape[1]):
            out[n * m + i] += back[i, row]
    return n * m + n


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def steps(
    x: Numbers, places: Numbers, c: Numbers, near: Numbers, shapes: tuple[int, int, int],
    batch: int, sweeps: int, counter: int, descent: Descent,
) -> tuple[float, Numbers]:  # fmt: skip
    """Steps of contrastive divergence and AdamW, without d and b.

    Args:
        x: spins of the rows of all batches, (N, n) int8.
        places: which of its sites each site takes, of each batch, (K, N).
        c: where the gains are wanted, (D, n).
        near: as in `swept`.
        shapes: C, k² or N, and hidden units of the gains' network.
        batch: rows of a step.
        sweeps: of the chains.
        counter: of the random bits.
        descent: the weights and how they move; those of W come first, then the network's.

    Returns:
        The sum of F(data) − F(chains), and the spins of the chains (N, n) int8.
    """
    none, chains, loss = np.empty((0, 0), np.float32), np.empty_like(x), 0.0
    count, width, hidden = shapes
    flat, first_bias = descent.weights, count * width + hidden * len(c)
    last_weight = first_bias + hidden
    last_bias = last_weight + count * hidden
    w = flat[: count * width].reshape(count, width)
    w1 = flat[count * width : first_bias].reshape(hidden, len(c))
    b1, b2 = flat[first_bias:last_weight], flat[last_bias:]
    w2 = flat[last_weight:last_bias].reshape(count, hidden)
    gradient = np.empty_like(flat)
    units = count * near.shape[1] if len(near) else count
    at_once = rows_at_once(units)
    for k in range(len(places)):
        gradient[:] = 0
        rows = min(batch, x.shape[1] - k * batch)
        for first in range(k * batch, k * batch + rows, at_once):
            last = min(first + at_once, k * batch + rows)
            v = np.empty((len(x), last - first), np.float32)
            for i in range(len(v)):
                own, spin = v[i], x[places[k, i], first:last]
                for row in range(len(own)):
                    own[row] = spin[row]
            here = np.ascontiguousarray(c[:, first:last])
            s = w1 @ here
            slope = silu(s, b1)
            g = w2 @ s
            fast_exp(g, b2)
            model, value, dg, _, dw = contrast(v, none, w, near, g, none, none, sweeps, counter)
            counter += sweeps * (units + len(v)) * len(value)
            for i in range(len(v)):
                end, spins = chains[i, first:last], model[i]
                for row in range(len(end)):
                    end[row] = np.int8(spins[row])
            for row in range(len(value)):
                loss += value[row]
            for i in range(count):
                for j in range(width):
                    gradient[i * width + j] += dw[i, j]
            scaled_by(dg, g)
            back = w2.T @ dg
            scaled_by(back, slope)
            at = count * width
            at += layer_slopes(back, here, gradient[at:])
            layer_slopes(dg, s, gradient[at:])
        for i in range(len(gradient)):
            gradient[i] /= F32(rows)
        descended(descent, k, gradient)
    return loss, chains
