"""Generate the demo's reference data: ethanol at 500 K on the GFN2-xTB energy surface.

Run ``python scripts/make_demo_data.py`` (needs ``pip install 'stablemd[tblite]'``; about ten
minutes on one core).  Interrupted, it continues where it stopped.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from stablemd.data.generate.xtb import generate_xtb, method_name
from stablemd.data.npz import write_npz
from stablemd.data.topology import system_from_frames

TEMPERATURE_K = 500.0
N_TRAJECTORIES = 8
N_FRAMES = 4000
STRIDE = 50
DT_FS = 0.5
FRICTION_PER_PS = 10.0
EQUILIBRATION_STEPS = 4000
SEED = 0
TARGET = Path(__file__).parents[1] / "src/stablemd/demo/data/ethanol_gfn2_500K.npz"


def main() -> None:
    """Sample, write the npz file, and print what it holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=TARGET)
    parser.add_argument("--checkpoint", type=Path, default=Path("ethanol_gfn2_500K.partial.npz"))
    arguments = parser.parse_args()

    began = time.perf_counter()

    def progress(done: int, total: int) -> None:
        if done % 100 == 0:
            print(f"{done}/{total} strides, {time.perf_counter() - began:.0f} s", flush=True)

    frames = generate_xtb(
        "CH3CH2OH",
        temperature_k=TEMPERATURE_K,
        n_frames=N_FRAMES,
        stride=STRIDE,
        dt_fs=DT_FS,
        friction_per_ps=FRICTION_PER_PS,
        equilibration_steps=EQUILIBRATION_STEPS,
        seed=SEED,
        n_trajectories=N_TRAJECTORIES,
        checkpoint=arguments.checkpoint,
        progress=progress,
    )
    metadata = {
        "name": "ethanol",
        "method": method_name(),
        "temperature_k": TEMPERATURE_K,
        "dt_fs": DT_FS,
        "friction_per_ps": FRICTION_PER_PS,
        "frame_interval_fs": STRIDE * DT_FS,
        "seed": SEED,
        "trajectory": np.repeat(np.arange(N_TRAJECTORIES), N_FRAMES // N_TRAJECTORIES).astype("u1"),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_npz(arguments.out, frames, metadata=metadata, single_precision=True)
    energies, forces = frames.require_labels()
    print(f"{arguments.out}: {len(frames)} frames, {arguments.out.stat().st_size / 1e6:.2f} MB")
    print(f"energy {float(energies.mean()):.4f} +- {float(energies.std()):.4f} eV")
    print(f"force rms {float(forces.square().mean().sqrt()):.4f} eV/Å")
    system = system_from_frames(frames)
    for bond, length in enumerate(system.bond_lengths.tolist()):
        print(f"{system.bond_name(bond)} {length:.4f} Å")


if __name__ == "__main__":
    main()
