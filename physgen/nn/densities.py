"""Densities and draws that several families share: normal, Student's t, and categories."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["drawn_category", "normal_log_density", "student_log_density", "student_stretch"]


def normal_log_density(r: Tensor) -> Tensor:
    """The log density of the standard normal law at r (...), (...)."""
    return -0.5 * (r.square() + math.log(2 * math.pi))


def student_log_density(r: Tensor, freedom: Tensor) -> Tensor:
    """The log density of Student's t at r (...), (...).

    Args:
        r: (...).
        freedom: degrees of freedom ν, of a shape that broadcasts.
    """
    half = freedom / 2
    norm = (half + 0.5).lgamma() - half.lgamma() - 0.5 * (2 * math.pi * half).log()
    nu = freedom.to(r.dtype)
    return norm.to(r.dtype) - 0.5 * (nu + 1) * (r.square() / nu).log1p()


def student_stretch(freedom: Tensor, generator: torch.Generator) -> Tensor:
    """√(ν/χ²_ν) of ν degrees of freedom (...): by it normal numbers become Student's, (...)."""
    half = freedom / 2
    return (half / torch._standard_gamma(half, generator=generator)).sqrt()


def drawn_category(p: Tensor, uniforms: Tensor) -> Tensor:
    """Numbers of categories of probabilities p (..., K), by uniform numbers (...), (...)."""
    return (uniforms[..., None] >= p.cumsum(-1)[..., :-1]).sum(-1)
