"""Known vulnerabilities of what is locked: 1 when there are any, and a plain word when nobody could be asked.

pip-audit counts what a registry does not know of as skipped and succeeds; here that is no success.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SERVICES = ("pypi", "osv")
SECONDS = 300


def main() -> int:
    """Ask the services one after the other, until one answers."""
    for service in SERVICES:
        found = ask(service)
        known = [each for each in found if "vulns" in each]
        if not known:
            continue
        wrong = [f"{each['name']} {each['version']}: {flaw['id']}" for each in known for flaw in each["vulns"]]
        print("\n".join(wrong))
        print(f"audit: {len(known)} of {len(found)} packages known to {service}, {len(wrong)} vulnerabilities")
        return bool(wrong)
    print("audit: NOT DONE: no advisory service is reached from here; nothing was looked up")
    return 0


def ask(service: str) -> list[dict[str, Any]]:
    """Return what a service says of each locked package; nothing when it cannot be asked."""
    tool = Path(sys.executable).with_name("pip-audit")
    options = ["--service", service, "--format", "json", "--progress-spinner", "off", "--disable-pip"]
    done = subprocess.run(  # noqa: S603  our own arguments
        [tool, *options, "--require-hashes", "--requirement", "requirements.lock"],
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    try:
        return list(json.loads(done.stdout)["dependencies"])
    except ValueError:
        return []


if __name__ == "__main__":
    sys.exit(main())
