"""Make benchmarks/aspirin.xyz: aspirin embedded by RDKit, relaxed with GFN2-xTB.

The benchmarks need one reasonable geometry that belongs to this project.  RDKit is
needed for this script only::

    pip install rdkit tblite ase
    OMP_NUM_THREADS=1 python benchmarks/make_aspirin.py
"""

from __future__ import annotations

from pathlib import Path

from ase import Atoms
from ase.io import write
from ase.optimize import BFGS
from rdkit import Chem
from rdkit.Chem import AllChem
from tblite.ase import TBLite

SMILES = "CC(=O)Oc1ccccc1C(=O)O"
FORCE_TOLERANCE = 0.01
"""Largest remaining force, eV/Å."""


def main() -> None:
    molecule = Chem.AddHs(Chem.MolFromSmiles(SMILES))
    AllChem.EmbedMolecule(molecule, randomSeed=1)
    AllChem.MMFFOptimizeMolecule(molecule)
    atoms = Atoms(
        [atom.GetSymbol() for atom in molecule.GetAtoms()],
        molecule.GetConformer().GetPositions(),
    )
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    BFGS(atoms, logfile=None).run(fmax=FORCE_TOLERANCE, steps=500)
    atoms.positions -= atoms.get_center_of_mass()
    atoms.calc = None
    comment = f"aspirin, {SMILES}, relaxed with GFN2-xTB by benchmarks/make_aspirin.py; angstrom"
    write(Path(__file__).with_name("aspirin.xyz"), atoms, format="xyz", comment=comment, fmt="%.6f")
    print(comment)


if __name__ == "__main__":
    main()
