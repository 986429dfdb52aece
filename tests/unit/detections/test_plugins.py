"""The worked example of docs/plugins.md, as somebody else's package."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from worker.detections.registry import detections

GUIDE = (Path(__file__).parents[3] / "docs" / "plugins.md").read_text("utf-8")
BLOCKS = {kind: re.findall(rf"```{kind}\n(.*?)```", GUIDE, re.DOTALL) for kind in ("toml", "python", "yaml")}


def installed(directory: Path) -> dict[str, str]:
    """Lay the example out as an installed package; return the environment that has it."""
    package = directory / "acme_detections"
    package.mkdir()
    (package / "__init__.py").write_text("", "utf-8")
    (package / "night_shift.py").write_text(BLOCKS["python"][0], "utf-8")
    metadata = directory / "acme_detections-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-detections\nVersion: 1\n", "utf-8")
    (group,) = re.findall(r'entry-points\."(.+)"', BLOCKS["toml"][0])
    (name, target) = re.findall(r'^([\w-]+) = "(.+)"$', BLOCKS["toml"][0], re.MULTILINE)[0]
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n", "utf-8")
    return {**os.environ, "PYTHONPATH": str(directory)}


def test_the_example_is_in_the_catalogue_once_installed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "worker.cli", "detections", "list", "--json"]
    done = subprocess.run(command, env=installed(tmp_path), capture_output=True, text=True, check=True)
    found = {each["id"] for each in json.loads(done.stdout)["detections"]}
    assert found == {*detections(), "night-shift"}


def test_its_cases_run_as_the_guide_says(tmp_path: Path) -> None:
    environment = installed(tmp_path)
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "night-shift.yaml").write_text(BLOCKS["yaml"][0], "utf-8")
    (tmp_path / "test_acme.py").write_text(BLOCKS["python"][1], "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_acme.py"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
