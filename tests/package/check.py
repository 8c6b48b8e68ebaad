# SPDX-License-Identifier: Apache-2.0
"""
Part of ``make check``: build the package and look at what users will get.

Each ``check_...`` raises AssertionError for what is wrong. Wheel and sdist stay in ``.build/dist``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Mapping
from configparser import ConfigParser
from email.parser import BytesParser
from email.policy import compat32
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from airflow_provider_kling import __version__

CHECKOUT = Path(__file__).parents[2]
DIST = CHECKOUT / ".build" / "dist"
EMPTY = CHECKOUT / ".build" / "package"
PACKAGE = "airflow_provider_kling"
DIST_INFO = f"{PACKAGE}-{__version__}.dist-info"
_FOREIGN_VARIABLES = ("AIRFLOW", "_AIRFLOW", "PYTHON", "VIRTUAL_ENV")


def build() -> tuple[Path, Path]:
    """Build wheel and sdist from the source, and return their paths."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(_uv(), "build", "--quiet", "--wheel", "--sdist", "--out-dir", DIST)
    [wheel] = DIST.glob("*.whl")
    [sdist] = DIST.glob("*.tar.gz")
    return wheel, sdist


def check_content(files: Mapping[str, bytes]) -> None:
    """The wheel holds our package whole, its metadata, and nothing else."""
    source = {
        str(path.relative_to(CHECKOUT))
        for path in (CHECKOUT / PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    metadata = {f"{DIST_INFO}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")}
    expected = {*source, *metadata, f"{DIST_INFO}/licenses/LICENSE"}
    assert set(files) == expected, f"the wheel differs from the source in {sorted(set(files) ^ expected)}"
    assert f"{PACKAGE}/py.typed" in files
    assert files[f"{DIST_INFO}/licenses/LICENSE"] == (CHECKOUT / "LICENSE").read_bytes()


def check_metadata(files: Mapping[str, bytes]) -> None:
    """The metadata says what ``pyproject.toml`` says."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    told = BytesParser(policy=compat32).parsebytes(files[f"{DIST_INFO}/METADATA"])
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"]] + [
        f"{requirement} ; extra == '{extra}'" for extra, listed in extras.items() for requirement in listed
    ]
    compare("Name", told["Name"], project["name"])
    compare("Version", told["Version"], __version__)
    compare("Requires-Python", told["Requires-Python"], project["requires-python"])
    compare("License-Expression", told["License-Expression"], project["license"])
    compare("License-File", told.get_all("License-File"), project["license-files"])
    urls = [f"{label}, {url}" for label, url in project["urls"].items()]
    compare("Project-URL", told.get_all("Project-URL"), urls)
    compare("Classifier", told.get_all("Classifier"), project["classifiers"])
    compare("Provides-Extra", set(told.get_all("Provides-Extra") or ()), set(extras))
    compare(
        "Requires-Dist",
        set(map(Requirement, told.get_all("Requires-Dist") or ())),
        set(map(Requirement, requirements)),
    )
    assert str(told.get_payload()).strip() == (CHECKOUT / "README.md").read_text().strip(), (
        "the README is not in it"
    )
    entry_points = ConfigParser()
    entry_points.read_string(files[f"{DIST_INFO}/entry_points.txt"].decode())
    compare(
        "entry points",
        {group: dict(entry_points[group]) for group in entry_points.sections()},
        {**project["entry-points"], **({"console_scripts": project["scripts"]} if "scripts" in project else {})},
    )


def check_rebuild(sdist: Path, files: Mapping[str, bytes]) -> None:
    """The sdist holds the source and every page, no more than that, and makes the same wheel."""
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    pages = {str(page.relative_to(CHECKOUT)) for page in (*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md"))}
    missing = pages - {name.partition("/")[2] for name in names}
    assert not missing, f"the sdist lacks {sorted(missing)}"
    strange = [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    assert not strange, f"the sdist holds {strange}"
    rebuilt = DIST / "rebuilt"
    run(_uv(), "build", "--quiet", "--wheel", "--out-dir", rebuilt, sdist)
    [wheel] = rebuilt.glob("*.whl")
    again = content_of(wheel)
    differing = [name for name in {*files, *again} if files.get(name) != again.get(name)]
    assert not differing, f"the wheel that the sdist makes differs in {sorted(differing)}"


def check_installed(wheel: Path) -> None:
    """In an empty environment the wheel brings all it needs, and Airflow lists provider and connection type."""
    shutil.rmtree(EMPTY, ignore_errors=True)
    python = EMPTY / "venv" / "bin" / "python"
    run(_uv(), "venv", "--quiet", "--python", sys.executable, EMPTY / "venv")
    run(_uv(), "pip", "install", "--quiet", "--python", python, wheel)
    providers = airflow(python, "providers", "list")
    [kling] = [provider for provider in providers if provider["package_name"] == "airflow-provider-kling"]
    compare("version that Airflow lists", kling["version"].strip(), __version__)
    hooks = {hook["connection_type"]: hook for hook in airflow(python, "providers", "hooks")}
    assert "kling" in hooks, f"Airflow lists the connection types {sorted(hooks)}"
    compare("class of the connection", hooks["kling"]["class"], f"{PACKAGE}.hooks.kling.KlingHook")


def airflow(python: Path, *command: str) -> list[dict[str, str]]:
    """Return what an Airflow command of the empty environment lists."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN_VARIABLES)}
    environment |= {"AIRFLOW_HOME": str(EMPTY / "airflow")}
    said = subprocess.run(
        [python, "-m", "airflow", *command, "--output", "json"],
        cwd=EMPTY,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    listed: list[dict[str, str]] = json.loads(said[said.index("[{") :])
    return listed


def content_of(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def compare(what: str, found: Any, expected: Any) -> None:
    assert found == expected, f"{what} is {found!r}, not {expected!r}"


def run(*command: str | Path) -> None:
    subprocess.run(command, cwd=CHECKOUT, check=True)


def _uv() -> Path:
    return Path(sys.executable).with_name("uv")


def main() -> int:
    """Check everything and return the exit code."""
    wheel, sdist = build()
    files = content_of(wheel)
    try:
        check_content(files)
        check_metadata(files)
        check_rebuild(sdist, files)
        check_installed(wheel)
    except AssertionError as error:
        print(f"{wheel.name}: {error}", file=sys.stderr)
        return 1
    print(f"{wheel.name}: {len(files)} files, the sdist rebuilds it, Airflow lists what it installs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
