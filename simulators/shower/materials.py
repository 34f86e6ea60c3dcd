"""What a calorimeter is made of.

Effective charge Z, critical energy E_c (of electrons, Rossi's definition is the cascade's: the
loss by ionisation in one X₀), radiation length X₀ and Molière radius R_M of the absorbers, from
the Particle Data Group's tables of atomic and nuclear properties (R. L. Workman et al., Prog.
Theor. Exp. Phys. 2022, 083C01); Z of PbWO₄ is the effective one of GFlash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["MATERIALS", "Material", "Name"]

Name = Literal["PbWO4", "W", "Pb", "Fe"]


@dataclass(frozen=True)
class Material:
    """One material.

    Attributes:
        z: effective charge number Z.
        critical_energy: E_c, GeV.
        radiation_length: X₀, mm.
        moliere_radius: R_M, mm.
    """

    z: float
    critical_energy: float
    radiation_length: float
    moliere_radius: float


MATERIALS: dict[Name, Material] = {
    "PbWO4": Material(68.4, 9.64e-3, 8.90, 19.59),
    "W": Material(74, 7.97e-3, 3.504, 9.327),
    "Pb": Material(82, 7.43e-3, 5.612, 16.02),
    "Fe": Material(26, 21.68e-3, 17.57, 17.19),
}
