"""Draws the mail of an incident, in light and dark, with headless Chromium: `python -m tools.mail_pictures DIR`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from worker.alerts.message import Links, build_message
from worker.alerts.rendering import render
from worker.alerts.sample import sample_incident

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
SIZE = "760,1270"
SCHEMES = {"light": "1", "dark": "0"}
"""Preferred colour schemes, as Blink numbers them."""
NOW = 1_795_000_000_000


def chromium() -> str | None:
    """Return the path of Chromium; None if it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def draw(html: str, picture: Path, scheme: str) -> None:
    """Draw a page into a PNG file.

    Raises:
        subprocess.CalledProcessError: Chromium failed.
    """
    with tempfile.TemporaryDirectory() as directory:
        page = Path(directory, "mail.html")
        page.write_text(html, encoding="utf-8")
        command = [
            chromium() or "chromium", *FLAGS, f"--user-data-dir={directory}/profile", f"--window-size={SIZE}",
            f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", f"--screenshot={picture}", page.as_uri(),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=120)  # noqa: S603  our own page


def main(directory: Path) -> None:
    """Draw the sample incident."""
    links = Links("https://grafana.example.com", "https://console.example.com/{incident}")
    html = render("html", "mail.html.j2", build_message(sample_incident(NOW), links)).text
    for scheme in SCHEMES:
        draw(html, directory.resolve() / f"mail-{scheme}.png", scheme)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
