"""The exact partition function of the Ising torus without field (Kaufman 1949), and what follows.

A torus of m rows and n columns, couplings K_x = βJ_x along the rows and K_y = βJ_y along the
columns. Diagonalising the transfer matrix between columns of spinors gives 2n modes, of momenta
q_l = πl/n and of gap γ_l ≥ 0 with

    cosh γ_l = cosh γ_0 + 2 R sin²(q_l/2),  R = sinh 2K_x / sinh 2K_y,  γ_0 = 2K_x + ln tanh K_y,

the odd l in one sector (fermions antiperiodic around the ring), the even l in the other. With
y_l = mγ_l/2, C = Π 2cosh y_l and t = Π tanh y_l over a sector,

    Z = ½ (2 sinh 2K_y)^{nm/2} [C_odd (1 + t_odd) + C_even (1 + t_even)].

The one signed mode is γ_0, which is negative in the disordered phase. Written out as

    2 cosh y_0 (1 + r tanh y_0) = e^{y_0} (1 + r) + e^{−y_0} (1 − r),  r = Π_{even l > 0} tanh y_l,

its sector is a sum of positive terms, with 1 − r = −expm1(Σ ln tanh y_l), and nothing cancels at
any temperature. Modes l and 2n − l are equal, so only l ≤ n is computed, with weight 2 inside.

**Derivatives.** For a direction v in the plane (K_x, K_y) the first and second derivatives of
every step are carried along in closed form (a jet). In the direction (J_x, J_y) they are
dlog Z/dβ = −⟨E⟩ and d²log Z/dβ² = var E: energy, specific heat and entropy at machine precision,
through T_c as elsewhere.

**Signs.** Turning every other column changes the sign of K_x, if their number is even; so log Z
is even in K_x, and likewise in K_y. On an odd ring a negative coupling is frustrated, and refused.

Checked against: enumeration; the finite-lattice energies and specific heats at T_c of Ferdinand
and Fisher (1969); the density of states of Beale (1996).

References: L. Onsager, Phys. Rev. 65, 117 (1944); B. Kaufman, Phys. Rev. 76, 1232 (1949);
A. Ferdinand and M. Fisher, Phys. Rev. 185, 832 (1969); P. Beale, Phys. Rev. Lett. 76, 78 (1996).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simulators.base import Array

__all__ = ["CRITICAL_BETA", "Jet", "Thermal", "log_z", "log_z_complex", "log_z_jet", "thermal"]

CRITICAL_BETA = float(np.log1p(np.sqrt(2)) / 2)
SMALLEST = 1e-6  # |K| below this is taken as this; log Z is off by N K², 1e-12 a spin


class Jet(NamedTuple):
    """A function along a line: its value and its first and second derivative."""

    f: Array
    d: Array
    dd: Array

    def scale(self, a: float | Array) -> Jet:
        """The jet of a f, a being constant."""
        return Jet(a * self.f, a * self.d, a * self.dd)

    def plus(self, other: Jet) -> Jet:
        """The jet of f + g."""
        return Jet(self.f + other.f, self.d + other.d, self.dd + other.dd)

    def then(self, g: Array, dg: Array, ddg: Array) -> Jet:
        """The jet of g(f), from g, g' and g'' at f."""
        return Jet(g, dg * self.d, dg * self.dd + ddg * self.d**2)

    def sum(self, weight: Array) -> Jet:
        """Σ_l w_l f_l over the last axis."""
        return Jet(self.f @ weight, self.d @ weight, self.dd @ weight)


def _log_cosh(y: Jet) -> Jet:
    """Log 2cosh y, y ≥ 0."""
    t = np.tanh(y.f)
    return y.then(y.f + np.log1p(np.exp(-2 * y.f)), t, 1 - t**2)


def _log_tanh(y: Jet) -> Jet:
    """Log tanh y, y > 0."""
    e = np.exp(-2 * y.f)
    csch = 2 * e / (-np.expm1(-4 * y.f))  # 1/sinh 2y
    coth = (1 + e**2) / (-np.expm1(-4 * y.f))  # coth 2y
    return y.then(np.log1p(-e) - np.log1p(e), 2 * csch, -4 * csch * coth)


def _log1p_exp(y: Jet) -> Jet:
    """Log(1 + e^y)."""
    s = 1 / (1 + np.exp(-y.f))
    return y.then(np.log1p(np.exp(y.f)), s, s * (1 - s))


def _log1m_exp(y: Jet) -> Jet:
    """Log(1 − e^y), y < 0."""
    f = np.minimum(y.f, -1e-150)  # where Σ ln tanh underflows its sector has no weight
    s = 1 / np.expm1(-f)
    return y.then(np.log(-np.expm1(f)), -s, -s * (1 + s))


def _log_add(a: Jet, b: Jet) -> Jet:
    """Log(e^a + e^b)."""
    top = np.maximum(a.f, b.f)
    p, q = np.exp(a.f - top), np.exp(b.f - top)
    p, q, total = p / (p + q), q / (p + q), top + np.log(p + q)
    return Jet(total, p * a.d + q * b.d, p * a.dd + q * b.dd + p * q * (a.d - b.d) ** 2)


def _gaps(kx: Array, ky: Array, vx: Array, vy: Array, s: Array) -> tuple[Jet, Jet]:
    """γ_0 (signed), and γ_l for each sin²(q_l/2) > 0 of s, along the direction (v_x, v_y)."""
    log_tanh = _log_tanh(Jet(ky, vy, 0 * ky))
    g0 = Jet(2 * kx, 2 * vx, 0 * kx).plus(log_tanh)
    sx, cx, csch, coth = np.sinh(2 * kx), np.cosh(2 * kx), 1 / np.sinh(2 * ky), 1 / np.tanh(2 * ky)
    r = sx * csch
    dr = 2 * (vx * cx - vy * sx * coth) * csch
    ddr = 4 * (vx**2 * sx - 2 * vx * vy * cx * coth + vy**2 * sx * (coth**2 + csch**2)) * csch
    sh, ch = np.sinh(g0.f), np.cosh(g0.f)
    d = sh * g0.d + 2 * s * dr
    dd = ch * g0.d**2 + sh * g0.dd + 2 * s * ddr
    half = np.sinh(g0.f / 2) ** 2 + r * s  # sinh²(γ_l/2)
    sinh = 2 * np.sqrt(half * (1 + half))
    dg = d / sinh
    return g0, Jet(2 * np.arcsinh(np.sqrt(half)), dg, (dd - (1 + 2 * half) * dg**2) / sinh)


def _fold(k: Array, sites: int) -> tuple[Array, Array]:
    """|K| and the sign of K, K being a coupling around rings of `sites` sites.

    Raises:
        ValueError: a negative coupling on an odd ring.
    """
    k = np.asarray(k, dtype=float)
    if sites % 2 and np.any(k < 0):
        raise ValueError(
            f"log Z: expected couplings ≥ 0 around an odd number of sites, got {k.min():g} around "
            f"{sites}; take an even size"
        )
    sign = np.where(k < 0, -1.0, 1.0)
    return np.maximum(np.abs(k), SMALLEST), sign


def _modes(n: int) -> tuple[Array, Array]:
    """The l of 1 … n and the weights with which they count."""
    ell = np.arange(1, n + 1)
    return ell, np.where(ell < n, 2.0, 1.0)


def log_z_jet(shape: tuple[int, int], kx: Array, ky: Array, vx: Array, vy: Array) -> Jet:
    """Log Z and its first two derivatives along (v_x, v_y), each of the shape of `kx`.

    Args:
        shape: rows m and columns n, each at least 2.
        kx: K_x = βJ_x, the coupling along a row.
        ky: K_y = βJ_y, the coupling along a column.
        vx: dK_x, for example J_x for derivatives with respect to β.
        vy: dK_y.

    Raises:
        ValueError: a negative coupling around an odd number of sites.
    """
    m, n = shape
    kx, ky, vx, vy = np.broadcast_arrays(kx, ky, vx, vy)
    (kx, sx), (ky, sy) = _fold(kx, n), _fold(ky, m)
    kx, ky, vx, vy = kx[..., None], ky[..., None], (sx * vx)[..., None], (sy * vy)[..., None]
    ell, weight = _modes(n)
    g0, g = _gaps(kx, ky, vx, vy, np.sin(np.pi * ell / (2 * n)) ** 2)
    odd, even = weight * (ell % 2 == 1), weight * (ell % 2 == 0)
    y, y0 = g.scale(m / 2), g0.scale(m / 2).sum(np.ones(1))
    cosh, tanh = _log_cosh(y), _log_tanh(y)
    r = tanh.sum(even)
    ordered = _log_add(y0.plus(_log1p_exp(r)), y0.scale(-1).plus(_log1m_exp(r)))
    sectors = _log_add(cosh.sum(odd).plus(_log1p_exp(tanh.sum(odd))), cosh.sum(even).plus(ordered))
    b = Jet(2 * ky, 2 * vy, 0 * ky).sum(np.ones(1))
    e = -np.expm1(-2 * b.f)
    front = b.then(b.f + np.log(e), (2 - e) / e, -4 * (1 - e) / e**2).scale(m * n / 2)
    return front.plus(sectors)._replace(f=front.f + sectors.f - np.log(2))


def log_z(shape: tuple[int, int], kx: Array, ky: Array) -> Array:
    """Log Z at couplings K_x and K_y; see :func:`log_z_jet`."""
    return log_z_jet(shape, kx, ky, np.zeros(1), np.zeros(1)).f.reshape(np.shape(kx))


class Thermal(NamedTuple):
    """Thermal means of one lattice at each β, in units of J = 1 and nats."""

    log_z: Array
    energy: Array
    variance: Array
    entropy: Array


def thermal(shape: tuple[int, int], beta: Array, jx: float = 1.0, jy: float = 1.0) -> Thermal:
    """Log Z, ⟨E⟩, var E and entropy of the lattice at each β, without field."""
    beta = np.asarray(beta, dtype=float)
    f, d, dd = log_z_jet(shape, beta * jx, beta * jy, np.asarray(jx), np.asarray(jy))
    return Thermal(f, -d, dd, f - beta * d)


def log_z_complex(shape: tuple[int, int], k: Array) -> Array:
    """Log Z at complex K = K_x = K_y with Re K ≥ 0, up to multiples of 2πi.

    γ_0 and γ_n are the modes that are their own partner; their exponentials e^{±mγ/2} come from
    one square root of tanh K and those of the prefactor from the same, so that the branch of the
    root drops out. The others come in pairs and need e^{mγ} alone.
    """
    m, n = shape
    k = np.asarray(k, dtype=complex)[..., None]
    ell, _ = _modes(n)
    log_tanh = np.log(np.tanh(k))
    own = (m * (k + log_tanh / 2), m * (k - log_tanh / 2))  # mγ_0/2 and mγ_n/2
    s = np.sin(np.pi * ell[:-1] / (2 * n)) ** 2
    g = 2 * np.arcsinh(np.sqrt(np.sinh(k + log_tanh / 2) ** 2 + s))
    g = np.where(g.real < 0, -g, g)
    x, odd = np.exp(-m * g), ell[:-1] % 2 == 1
    sectors = [
        _sector(m * g[..., odd], x[..., odd], own[1:] if n % 2 else ()),
        _sector(m * g[..., ~odd], x[..., ~odd], own[:1] if n % 2 else own),
    ]
    top = np.maximum(sectors[0].real, sectors[1].real)
    both = top + np.log(np.exp(sectors[0] - top) + np.exp(sectors[1] - top)) - np.log(2)
    front = m * n * (np.log(2 * np.cosh(k)) + log_tanh / 2)
    return both + front[..., 0]


def _sector(mg: Array, x: Array, own: tuple[Array, ...]) -> Array:
    """Log of Π 2cosh y + Π 2sinh y: pairs of modes by mγ and x = e^{−mγ}, and single modes y."""
    pairs = (mg + 2 * np.log1p(x)).sum(-1)
    cosh, sinh = 1.0, np.exp(2 * (np.log1p(-x) - np.log1p(x)).sum(-1))
    for y in own:
        top = np.abs(y.real)
        up, down = np.exp(y - top)[..., 0], np.exp(-y - top)[..., 0]
        cosh, sinh, pairs = cosh * (up + down), sinh * (up - down), pairs + top[..., 0]
    return pairs + np.log(cosh + sinh + 1e-300)  # exactly 0 where the sector has no weight
