"""What is shipped and what is promised: the wheel, the lock, the conda file, and a light import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SUPPORTED = ["3.11", "3.12", "3.13"]
LOCKED_EXTRAS = ["dev", "bench"]
PACKAGES = {
    "portfolioopt": ROOT / "portfolioopt",
    "portfolioopt_kernels": ROOT / "kernels" / "portfolioopt_kernels",
}
SAMPLE = "portfolioopt/data/sample"


def requirements(*extras: str) -> list[Requirement]:
    """Return the direct dependencies with these extras, references to the project's own extras followed."""
    listed = [Requirement(text) for text in PROJECT["dependencies"]]
    for extra in extras:
        for text in PROJECT["optional-dependencies"][extra]:
            requirement = Requirement(text)
            if requirement.name == "portfolioopt":
                listed += requirements(*sorted(requirement.extras))
            else:
                listed.append(requirement)
    return listed


# --- the wheel ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The files in a wheel built from the source distribution, as an installer without the checkout does."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path).namelist()


def test_wheel_holds_both_packages_whole_and_nothing_else(wheel: list[str]) -> None:
    expected = {
        f"{name}/{path.relative_to(folder).as_posix()}"
        for name, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    shipped = {name for name in wheel if ".dist-info/" not in name}
    assert shipped == expected
    assert {Path(name).suffix for name in shipped} <= {".py", ".typed", ".parquet", ".md", ".txt"}


def test_wheel_holds_data_licences_and_type_markers(wheel: list[str]) -> None:
    for name in [
        f"{SAMPLE}/prices.parquet",
        f"{SAMPLE}/index.parquet",
        f"{SAMPLE}/factor_etfs.parquet",
        f"{SAMPLE}/factors.parquet",
        f"{SAMPLE}/SOURCES.md",
        f"{SAMPLE}/licenses/skfolio-BSD-3-Clause.txt",
        f"{SAMPLE}/licenses/linearmodels-NCSA.txt",
        f"{SAMPLE}/licenses/arch-NCSA.txt",
        "portfolioopt/py.typed",
        "portfolioopt_kernels/py.typed",
        "portfolioopt_kernels/__init__.py",
    ]:
        assert name in wheel
    metadata = f"portfolioopt-{PROJECT['version']}.dist-info"
    assert f"{metadata}/licenses/LICENSE" in wheel
    assert f"{metadata}/entry_points.txt" in wheel


# --- the lock -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lock() -> str:
    return (ROOT / "requirements.lock").read_text(encoding="utf-8")


def locked(lock: str) -> list[Requirement]:
    lines = re.findall(r"^[A-Za-z0-9].*", lock, flags=re.MULTILINE)
    return [Requirement(line.removesuffix("\\").strip()) for line in lines]


def environment(python: str) -> dict[str, str]:
    """Return the markers of an installer on Linux with this Python."""
    own = {key: str(value) for key, value in default_environment().items()}
    linux = {
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "os_name": "posix",
    }
    return {**own, **linux, "python_version": python, "python_full_version": f"{python}.1"}


def test_lock_names_no_place(lock: str) -> None:
    for line in lock.splitlines():
        assert "://" not in line
        assert " @ " not in line
        assert not re.search(r"--(?!hash=)", line), line  # no --index-url, --find-links, --trusted-host ...
        assert not re.search(r"(^|\s)[/~.]", line), line  # no path


def test_every_locked_file_has_a_hash(lock: str) -> None:
    entries = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]
    assert len(entries) == len(locked(lock))
    for entry in entries:
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize("python", SUPPORTED)
def test_lock_pins_every_dependency_once(lock: str, python: str) -> None:
    place = environment(python)
    pins: dict[str, str] = {}
    for requirement in locked(lock):
        if requirement.marker is None or requirement.marker.evaluate(place):
            name = canonicalize_name(requirement.name)
            assert name not in pins, f"{name} is pinned twice for Python {python}"
            (pin,) = requirement.specifier
            assert pin.operator == "=="
            pins[name] = pin.version
    for requirement in requirements(*LOCKED_EXTRAS):
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{name} is not locked: run make lock"
        assert pins[name] in requirement.specifier, f"{name} is locked at {pins[name]}: run make lock"
    # Both ship the same modules: with different versions, one would overwrite parts of the other.
    assert pins["cvxpy"] == pins["cvxpy-base"]


# --- metadata and the conda file ----------------------------------------------------------------------------


def test_supported_pythons_are_declared() -> None:
    prefix = "Programming Language :: Python :: 3."
    declared = [text.rsplit(" ", 1)[1] for text in PROJECT["classifiers"] if text.startswith(prefix)]
    assert declared == SUPPORTED
    assert all(python in SpecifierSet(PROJECT["requires-python"]) for python in SUPPORTED)
    assert "3.10" not in SpecifierSet(PROJECT["requires-python"])


def test_cuda_comes_from_jax() -> None:
    # jaxlib has no such extra: installers accept `jaxlib[cuda12]` and leave a CPU-only jaxlib.
    (cuda,) = map(Requirement, PROJECT["optional-dependencies"]["cuda12"])
    assert (cuda.name, cuda.extras) == ("jax", {"cuda12"})
    assert not any(requirement.extras for requirement in requirements("dev") if requirement.name == "jaxlib")


def test_conda_file_agrees_with_the_project() -> None:
    conda = YAML(typ="safe").load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert conda["name"] == PROJECT["name"]
    assert conda["channels"] == ["conda-forge", "nodefaults"]
    *packages, pip = conda["dependencies"]
    assert pip == {"pip": ["-e .[dev]"]}
    python = next(text for text in packages if text.startswith("python="))
    assert python.removeprefix("python=") in SUPPORTED
    assert "pip" in packages
    wanted = {requirement.name: str(requirement) for requirement in requirements()}
    for text in packages:
        if text not in (python, "pip"):
            assert wanted[Requirement(text).name] == text
            assert not text.startswith("jax"), "jax comes from pip, or the CUDA plug-in does not fit"


# --- imports ------------------------------------------------------------------------------------------------


def test_import_is_light_and_the_data_load() -> None:
    heavy = ["cvxpy", "cvxpylayers", "diffcp", "matplotlib", "pydantic", "typer"]
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'kernels')!r}]\n"
        "import portfolioopt\n"
        f"print([name for name in {heavy} if name in sys.modules])\n"
        "print(portfolioopt.data.sample_prices().shape)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines() == ["[]", "(8313, 20)"]


def test_kernels_import_five_packages_only() -> None:
    # The contract in pyproject.toml lists what is forbidden; this one lists what is allowed.
    allowed = {
        "jax",
        "equinox",
        "jaxtyping",
        "optax",
        "numpy",
        "portfolioopt_kernels",
        *sys.stdlib_module_names,
    }
    for path in PACKAGES["portfolioopt_kernels"].rglob("*.py"):
        imported: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add((node.module or "").split(".")[0])
        assert imported <= allowed, f"{path.relative_to(ROOT)} imports {', '.join(imported - allowed)}"
