"""Worlds whose features are known: planted text, planted factors, and latents built from them, with their truth.

texts     three generator families of text, each with the factors that hold at its positions
latents   reads of superposed factors: one factor, part of one, unions of several, random directions
truth     from any latents and known factors: the share of activation mass each factor has, and what follows from it
"""

from interp.worlds.latents import World, WorldConfig, planted_world
from interp.worlds.texts import FAMILIES, Factor, FactorText
from interp.worlds.truth import Truth

__all__ = ["FAMILIES", "Factor", "FactorText", "Truth", "World", "WorldConfig", "planted_world"]
