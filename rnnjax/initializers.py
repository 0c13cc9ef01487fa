"""Initialisers of cells where people look for them: `from rnnjax.initializers import Identity`."""

from rnnjax.cells.initializers import (
    CayleyRotations,
    Chrono,
    Fused,
    Gaussian,
    Identity,
    Linspace,
    LogUniform,
    Orthogonal,
    Rotations,
    SpectralRadius,
    Uniform,
    UniformGate,
)

__all__ = [
    "CayleyRotations",
    "Chrono",
    "Fused",
    "Gaussian",
    "Identity",
    "Linspace",
    "LogUniform",
    "Orthogonal",
    "Rotations",
    "SpectralRadius",
    "Uniform",
    "UniformGate",
]
