"""What a result was computed with: versions, commit and hardware."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any


def collect_versions() -> dict[str, Any]:
    """Versions of the software that decides numbers and speed, and the hardware.

    Returns:
        Plain values: ``stablemd``, ``git_commit`` (None outside a checkout; with
        ``-dirty`` where tracked files were changed), ``python``, ``torch``, ``numpy``,
        ``scipy``, ``ase``, ``numba``, ``cuda`` (of the torch build, None for CPU builds),
        ``gpus``, ``platform``, ``cpu``, ``cores`` (that this process may use) and
        ``torch_threads``.
    """
    import torch

    return {
        "stablemd": package_version("stablemd"),
        "git_commit": git_commit(),
        "python": platform.python_version(),
        **{name: package_version(name) for name in ("torch", "numpy", "scipy", "ase", "numba")},
        "cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cores": available_cores(),
        "torch_threads": torch.get_num_threads(),
    }


def package_version(name: str) -> str | None:
    """Installed version of a distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """Commit of the checkout this package runs from, or None.

    Only the checkout that the package itself belongs to counts, not one around
    the environment it is installed in.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    commit = _output("git", "-C", str(root), "rev-parse", "HEAD")
    if not commit:
        return None
    changed = _output("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if changed else commit


def cpu_model() -> str:
    """Marketing name of the processor, or its architecture where that is not known."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    if platform.system() == "Darwin":
        name = _output("sysctl", "-n", "machdep.cpu.brand_string")
        if name:
            return name
    return platform.processor() or platform.machine()


def available_cores() -> int:
    """Number of logical cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _output(*command: str) -> str | None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
