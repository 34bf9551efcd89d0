"""The embedded example: ethanol at the level of GFN2-xTB, and a model trained on too little."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).resolve().parent

CONFIG_PATH = _FOLDER / "ethanol.yaml"
"""Configuration of ``stablemd demo``."""

DATA_PATH = _FOLDER / "data" / "ethanol_gfn2_500K.npz"
"""4000 structures of ethanol at 500 K with energies and forces."""

MODEL_PATH = _FOLDER / "data" / "ethanol_schnet.pt"
"""A SchNet trained on 25 of them."""
