"""User agent strings of the simulated devices, and how they age."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from random import Random

_WEBKIT: Final = "AppleWebKit/537.36 (KHTML, like Gecko)"
_APPLE: Final = "AppleWebKit/605.1.15 (KHTML, like Gecko)"


class Model(msgspec.Struct, frozen=True, gc=False):
    """A kind of client.

    Attributes:
        browser, system, form: the families that tell devices apart.
        template: user agent with `{v}` (browser major) and `{o}` (system major).
        versions, systems: the majors in use, oldest first.
        scripted: no human's browser.
    """

    browser: str
    system: str
    form: str
    template: str
    versions: tuple[int, int]
    systems: tuple[int, int] = (0, 0)
    scripted: bool = False


class SimulatedDevice(msgspec.Struct, frozen=True, gc=False):
    """One device: a model at its current versions."""

    model: Model
    version: int
    system: int = 0

    @property
    def user_agent(self) -> str:
        """The string it sends."""
        return _render(self.model.template, self.version, self.system)

    def upgraded(self) -> SimulatedDevice:
        """The device after a browser update, and the system's where its version shows."""
        return SimulatedDevice(self.model, self.version + 1, self.system + 1 if self.system else 0)

    def downgraded(self) -> SimulatedDevice:
        """The same families with an older browser: no update does that."""
        return SimulatedDevice(self.model, self.version - 4, self.system)

    def same_client(self, other: SimulatedDevice) -> bool:
        """Return whether browser, system and form are the same families."""
        return _family(self.model) == _family(other.model)


def _family(model: Model) -> tuple[str, str, str]:
    return model.browser, model.system, model.form


@cache
def _render(template: str, version: int, system: int) -> str:
    return template.format(v=version, o=system)


_WINDOWS: Final = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"
_MAC: Final = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"
_IPHONE: Final = "Mozilla/5.0 (iPhone; CPU iPhone OS {o}_1 like Mac OS X)"
_ANDROID: Final = "Mozilla/5.0 (Linux; Android {o}; K)"

LAPTOPS: Final[tuple[Model, ...]] = (
    Model("Chrome", "Windows", "desktop", _WINDOWS + f" {_WEBKIT} Chrome/{{v}}.0.0.0 Safari/537.36", (128, 136)),
    Model(
        "Edge", "Windows", "desktop",
        _WINDOWS + f" {_WEBKIT} Chrome/{{v}}.0.0.0 Safari/537.36 Edg/{{v}}.0.0.0", (128, 136),
    ),
    Model(
        "Firefox", "Windows", "desktop",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:{v}.0) Gecko/20100101 Firefox/{v}.0", (128, 138),
    ),
    Model("Chrome", "Mac OS X", "desktop", _MAC + f" {_WEBKIT} Chrome/{{v}}.0.0.0 Safari/537.36", (128, 136)),
    Model("Safari", "Mac OS X", "desktop", _MAC + f" {_APPLE} Version/{{v}}.1 Safari/605.1.15", (16, 18)),
    Model(
        "Firefox", "Linux", "desktop",
        "Mozilla/5.0 (X11; Linux x86_64; rv:{v}.0) Gecko/20100101 Firefox/{v}.0", (128, 138),
    ),
)  # fmt: skip
IPHONE: Final = Model(
    "Mobile Safari", "iOS", "mobile",
    _IPHONE + f" {_APPLE} Version/{{o}}.1 Mobile/15E148 Safari/604.1", (0, 0), (16, 18),
)  # fmt: skip
ANDROID: Final = Model(
    "Chrome Mobile", "Android", "mobile",
    _ANDROID + f" {_WEBKIT} Chrome/{{v}}.0.0.0 Mobile Safari/537.36", (128, 136), (13, 15),
)  # fmt: skip
APP: Final = Model("okhttp", "", "", "okhttp/4.{v}.0", (9, 12))
PHONES: Final[tuple[Model, ...]] = (IPHONE, ANDROID)

SCRIPTS: Final[tuple[Model, ...]] = (
    Model("Python Requests", "", "", "python-requests/2.{v}.3", (28, 32), scripted=True),
    Model("curl", "", "", "curl/8.{v}.0", (4, 9), scripted=True),
    Model("Go-http-client", "", "", "Go-http-client/{v}.1", (1, 1), scripted=True),
    Model(
        "HeadlessChrome", "Linux", "desktop",
        f"Mozilla/5.0 (X11; Linux x86_64) {_WEBKIT} HeadlessChrome/{{v}}.0.0.0 Safari/537.36", (128, 136),
        scripted=True,
    ),
)  # fmt: skip
SERVICE_CLIENTS: Final[tuple[Model, ...]] = SCRIPTS[:3]


def device_of(model: Model, rng: Random) -> SimulatedDevice:
    """Draw a device of the model, at one of the versions in use."""
    return SimulatedDevice(model, rng.randint(*model.versions), rng.randint(*model.systems))


def stranger(known: tuple[SimulatedDevice, ...], rng: Random) -> SimulatedDevice:
    """Draw a browser of families that none of the known devices has, alone or in part."""
    browsers = {device.model.browser for device in known}
    systems = {device.model.system for device in known}
    others = [m for m in (*LAPTOPS, *PHONES) if m.browser not in browsers and m.system not in systems]
    fallback = [
        m
        for m in (*LAPTOPS, *PHONES)
        if (m.browser, m.system) not in {(d.model.browser, d.model.system) for d in known}
    ]
    return device_of(rng.choice(others or fallback), rng)
