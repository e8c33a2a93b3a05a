"""The Dockerfile, checked without an engine. The small program in it is really run."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
IGNORED = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line.strip())]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for word, rest in instructions():
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append((word, rest))
    return found


def copied_sources() -> set[str]:
    build = stages()[0]
    return {source for word, rest in build if word == "COPY" for source in rest.split()[:-1]}


def test_copied_files_exist_and_arent_ignored() -> None:
    for source in copied_sources():
        assert (ROOT / source).exists(), source
        assert f"!{source}" in IGNORED, source
    assert IGNORED[1] == "*"


def test_every_file_that_the_build_needs_is_copied_and_no_research() -> None:
    packages = set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) - {"compare"}
    needed = {*packages, "pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]}
    assert copied_sources() == needed


def test_dependencies_are_split_into_torch_and_the_rest(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (program,) = [rest for word, rest in stages()[0] if word == "RUN" and "tomllib" in rest]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(["sh", "-c", program], cwd=tmp_path, env={"PATH": path}, check=True, timeout=60)
    torch = (tmp_path / "torch.txt").read_text(encoding="utf-8").splitlines()
    rest = (tmp_path / "rest.txt").read_text(encoding="utf-8").splitlines()
    project = PROJECT["project"]
    assert sorted(torch + rest) == sorted(project["dependencies"] + project["optional-dependencies"]["gpu"])
    assert [re.split(r"\W", line)[0] for line in torch] == ["torch", "torchvision"]


def test_the_image_runs_as_nobody_special_and_without_build_tools() -> None:
    _, final = stages()
    assert dict(final)["USER"].split(":")[0] not in ("0", "root")
    assert [word for word, _ in final].index("USER") > max(i for i, (word, _) in enumerate(final) if word == "RUN")
    assert all(rest.startswith("--from=build ") for word, rest in final if word == "COPY")
    assert all("pip" not in rest for word, rest in final if word == "RUN")


def test_no_secret_is_baked_in() -> None:
    for word, rest in instructions():
        if word in ("ARG", "ENV"):
            assert not re.search(r"SECRET|PASSWORD|TOKEN|API_KEY", rest)


def test_its_python_is_supported_by_the_project() -> None:
    (version,) = [rest.split("=")[1] for word, rest in instructions() if word == "ARG" and rest.startswith("PYTHON")]
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains(version)


def test_the_default_command_exists() -> None:
    command = json.loads(dict(stages()[1])["CMD"])
    assert command[:2] == ["python", "-m"]
    assert callable(importlib.import_module(command[2]).main)


@pytest.mark.parametrize("name", [".env", ".git", ".venv", ".vgid"])
def test_private_files_stay_out_of_the_build(name: str) -> None:
    assert f"!{name}" not in IGNORED
