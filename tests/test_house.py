"""What is built and installed is what the source tree says."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from stablemd.versions import collect_versions, git_commit

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "stablemd"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGE_DATA = {".npz", ".j2", ".js", ".css", ".html", ".yaml", ".json", ".pt", ".typed"}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement_name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match
    return normalised(match.group())


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normalised(name): version for name, version in pairs}


# The wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel of a copy of the tree, so that building leaves no trace in it."""
    pytest.importorskip("hatchling", reason="building a wheel needs hatchling (make venv)")
    base = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, base / name)
    ignore = shutil.ignore_patterns("__pycache__", "*.tmp")
    shutil.copytree(ROOT / "src", base / "src", ignore=ignore)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "out"],
        cwd=base,
        check=True,
        capture_output=True,
    )
    (built,) = (base / "out").glob("*.whl")
    return zipfile.ZipFile(built)


def test_wheel_holds_all_source_and_data_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    packed = {n for n in wheel.namelist() if ".dist-info/" not in n}
    expected = {
        str(Path("stablemd") / p.relative_to(SOURCE))
        for p in SOURCE.rglob("*")
        if p.is_file() and (p.suffix == ".py" or p.suffix in PACKAGE_DATA)
    }
    assert "stablemd/py.typed" in expected
    assert expected - packed == set()
    assert {n for n in packed - expected if "__pycache__" in n} == set()
    assert all(n.startswith("stablemd/") for n in packed)


def test_wheel_declares_command_licence_and_python(wheel: zipfile.ZipFile) -> None:
    (info,) = {n.split("/")[0] for n in wheel.namelist() if ".dist-info/" in n}
    text = wheel.read(f"{info}/METADATA").decode()
    assert "License-Expression: Apache-2.0" in text
    assert "Requires-Python: >=3.11" in text
    assert "stablemd = stablemd.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()
    assert f"{info}/licenses/LICENSE" in wheel.namelist()


# Dependencies


def test_every_dependency_is_pinned_without_local_paths() -> None:
    pinned = pins()
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    assert {requirement_name(r) for r in wanted} - set(pinned) == set()
    assert "stablemd" not in pinned
    assert all(re.fullmatch(r"[0-9][0-9A-Za-z.]*", version) for version in pinned.values())


def test_pins_fulfil_the_declared_ranges() -> None:
    requirements = pytest.importorskip(
        "packaging.requirements", reason="reading requirements needs packaging (make venv)"
    )
    pinned = pins()
    for text in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]:
        requirement = requirements.Requirement(text)
        assert requirement.specifier.contains(pinned[normalised(requirement.name)]), text


def top_level_imports(file: Path) -> set[str]:
    """Packages that importing the file itself needs (not those imported lazily)."""
    found: set[str] = set()
    pending: list[ast.stmt] = list(ast.parse(file.read_text(encoding="utf-8")).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.ClassDef | ast.Try):
            pending += node.body
    return found - set(sys.stdlib_module_names) - {"stablemd"}


def test_importing_stablemd_needs_declared_dependencies_only() -> None:
    module_of = {"pyyaml": "yaml"}
    declared = {requirement_name(r) for r in PROJECT["dependencies"]}
    allowed = {module_of.get(name, name) for name in declared}
    undeclared = {
        str(file.relative_to(SOURCE)): extra
        for file in SOURCE.rglob("*.py")
        if (extra := top_level_imports(file) - allowed)
    }
    # Kernels of triton can't be defined inside of a function.
    assert undeclared == {"potentials/convolution_triton.py": {"triton"}}


def test_importing_stablemd_leaves_out_what_is_optional() -> None:
    code = (
        "import sys, stablemd.cli; "
        "sys.exit('stablemd.potentials.convolution_triton' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == 0


# Files about the project


def test_versions_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"


def test_collected_versions_name_software_and_hardware() -> None:
    versions = collect_versions()
    import numpy
    import torch

    assert versions["torch"] == torch.__version__
    assert versions["numpy"] == numpy.__version__
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert versions["cpu"] and versions["cores"] >= 1
    commit = git_commit()
    assert (commit is not None) == (ROOT / ".git").exists()
    if commit is not None:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert commit.removesuffix("-dirty") == head.stdout.strip()


# Make


def make(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    if path is not None:
        environment["PATH"] = path
    return subprocess.run(
        [str(shutil.which("make")), "-C", str(ROOT), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_make_help_lists_every_target() -> None:
    shown = make("help").stdout
    for target in ("demo", "test", "lint", "bench", "venv", "format", "clean"):
        assert f"make {target} " in shown


@pytest.mark.parametrize("target", ["demo", "test", "lint", "bench"])
def test_every_target_sets_itself_up_with_the_pins(target: str, tmp_path: Path) -> None:
    planned = make("-n", f"VENV={tmp_path / 'venv'}", target)
    assert planned.returncode == 0, planned.stderr
    install = [s for s in planned.stdout.splitlines() if "pip install" in s]
    assert install and all("-c constraints.txt" in s for s in install)


def test_make_says_which_python_is_missing(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "cat", "sh"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    old = tools / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.8.1" && exit 0\nexit 1\n')
    old.chmod(0o755)
    result = make(f"VENV={tmp_path / 'venv'}", "venv", path=str(tools))
    assert result.returncode != 0
    assert "needs Python 3.11 or newer" in result.stderr
    assert "Python 3.8.1" in result.stderr
