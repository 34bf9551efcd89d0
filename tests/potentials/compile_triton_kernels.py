"""Compile the kernels to machine code for a GPU, with the types that the form calls them with."""

from __future__ import annotations

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from stablemd.potentials import convolution_triton as kernels

TYPES = {
    "positions": "*fp64",
    "scales": "*fp64",
    "forces": "*fp64",
    "neighbours": "*i32",
    "knots": "*i32",
    "counts": "*i32",
    "n_atoms": "i32",
    "n": "i32",
}
CONSTANTS = {"ROOM": 20, "WIDTH": 64, "BLOCK": 8, "IS_LAST": False, "IS_FIRST": False}
CHANGES = {
    "find_neighbours": {"BLOCK": 32},
    "gather_messages": {},
    "scatter_gradients": {},
    "pull_atoms": {"BLOCK": 32},
    "shifted_softplus": {"BLOCK": 1024},
}

for name, changes in CHANGES.items():
    kernel = getattr(kernels, name)
    constants = {k: v for k, v in (CONSTANTS | changes).items() if k in kernel.arg_names}
    signature = {
        n: "constexpr" if n in constants else TYPES.get(n, "*fp32") for n in kernel.arg_names
    }
    source = ASTSource(kernel, signature, constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    assert len(compiled.asm["cubin"]) > 1000
    print(name)
