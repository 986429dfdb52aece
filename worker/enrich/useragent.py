"""Parses user agent strings to devices, with ua-parser and its Rust engine."""

from __future__ import annotations

import re
from functools import cache

from ua_parser import Domain, load_lazy_builtins
from ua_parser.regex import Resolver

from worker.enrich.model import UNKNOWN_DEVICE, Device

LONGEST = 512
"""Number of characters that are parsed. The relevant part is at the start, and long strings must not cost more."""
LONGEST_NAME = 64
"""Maximum length of a family. Some patterns of ua-parser accept any word of the string as a family."""

_CLIENTS = re.compile(
    r"(?:^|[\s;(])(?:"
    r"python|aiohttp|httpx|urllib|requests|pycurl|boto|scrapy|mechanize|locust|"
    r"curl|libcurl|wget|lwp|libwww|perl|ruby|faraday|typhoeus|rest-client|"
    r"go-http|go-resty|grpc-|java/|apache-httpclient|jakarta|ktor|unirest|"
    r"axios|node|undici|got\b|superagent|deno/|bun/|"
    r"php/|guzzle|symfony|powershell|windowspowershell|restsharp|\.net/|reqwest|hyper/|ureq|"
    r"postman|insomnia|httpie|xh/|k6/|jmeter|gatling|vegeta|hey/|apachebench|"
    r"aws-cli|aws-sdk|sqlmap|nmap|nikto|nuclei|zgrab|masscan)",
    re.IGNORECASE,
)
"""HTTP clients of programs, at the position of a product name. okhttp, Dart and CFNetwork are not included, because
Android, Flutter and Apple apps use them."""
_AUTOMATED = re.compile(r"headless|phantomjs|slimerjs|puppeteer|playwright|selenium|powershell", re.IGNORECASE)
"""Words of automated browsers in a string that otherwise is a browser's."""
# "Cubot" is a brand of phones.
_BOT = re.compile(r"(?<!cu)bot\b|crawler|spider|slurp|facebookexternalhit|bingpreview|\+https?://", re.IGNORECASE)
_TV = re.compile(
    r"smart-?tv|hbbtv|apple ?tv|google ?tv|android ?tv|roku|web0s|bravia|crkey|netcast|\btv safari|\baft[a-z0-9]+\b",
    re.IGNORECASE,
)
# "Tablet PC" is a component of Windows on every desktop of its time.
_TABLET = re.compile(r"ipad|tablet(?! pc)|kindle|silk/|playbook", re.IGNORECASE)
_BROWSER = ("Mozilla/", "Opera/")
"""Beginnings of the strings of browsers."""
_MOBILE_SYSTEMS = frozenset(
    {"iOS", "Android", "KaiOS", "Firefox OS", "Windows Phone", "Windows Mobile", "BlackBerry OS", "Symbian OS"}
)
_TV_SYSTEMS = frozenset({"tvOS", "ATV OS X", "Roku", "Web0S", "webOS", "FireHbbTV", "Chromecast Android"})
_DESKTOP_SYSTEMS = frozenset(
    {"Windows", "Mac OS X", "Mac OS", "Linux", "Ubuntu", "Fedora", "Debian", "CentOS", "Red Hat", "SUSE", "Gentoo",
     "Arch Linux", "Linux Mint", "Chrome OS", "FreeBSD", "OpenBSD", "NetBSD", "Solaris"}
)  # fmt: skip
_WANTED = Domain.USER_AGENT | Domain.OS


@cache
def _parser() -> Resolver:
    """Return ua-parser's engine without its cache (the enricher has one) and without its 600 device patterns."""
    browsers, systems, _devices = load_lazy_builtins()
    return Resolver((browsers, systems, []))


_COMPACT = re.compile(r"(?P<browser>.{1,64}?) (?P<version>[0-9][0-9.]*) / (?P<os>.{1,64}?) (?P<release>[0-9][0-9.]*)")
"""`Chrome 141.0.0 / Windows 10.0.0`: output of ua-parser's ports, which some logs (Auth0's) contain as user agent."""


def device_of(user_agent: str) -> Device:
    """Return the device of a user agent string; `UNKNOWN_DEVICE` when it is unknown.

    Known limits: Safari on an iPad reports a Mac, and so do phones that request the desktop site.
    """
    # The engine does not accept lone surrogates; they become "?".
    text = user_agent[:LONGEST].encode(errors="replace").decode()
    compact = _COMPACT.fullmatch(text.strip())
    if compact:
        return _compact_device(text, compact)
    found = _parser()(text, _WANTED)
    browser, version = _family(found.user_agent)
    system, release = _family(found.os)
    kind = _kind(text, system)
    scripted = kind in {"script", "bot"}
    if not browser and scripted:
        browser = _product(text)
    if not browser and not system:
        return UNKNOWN_DEVICE
    return Device(browser, _number(version), system, release, kind, scripted)


def _compact_device(text: str, found: re.Match[str]) -> Device:
    browser, system = ("" if name == "Other" else name.strip() for name in found.group("browser", "os"))
    version, release = (number.partition(".")[0].lstrip("0") for number in found.group("version", "release"))
    if not browser and not system:
        return UNKNOWN_DEVICE
    scripted = bool(_CLIENTS.search(browser) or _AUTOMATED.search(browser))
    kind = "script" if scripted else "bot" if _BOT.search(browser) else _compact_kind(text, browser, system)
    return Device(browser, _number(version), system, release, kind, scripted or kind == "bot")


def _compact_kind(text: str, browser: str, system: str) -> str:
    if system in _TV_SYSTEMS or _TV.search(text):
        return "tv"
    if _TABLET.search(text) or (system == "Android" and browser in ("Chrome", "Firefox", "Edge")):
        return "tablet"
    return _personal(text, system)


def _family(found: object) -> tuple[str, str]:
    """Return family and major version, both empty when ua-parser does not know them."""
    family = str(getattr(found, "family", "Other")).strip()[:LONGEST_NAME]
    return ("", "") if family == "Other" else (family, (getattr(found, "major", None) or "")[:LONGEST_NAME])


def _product(text: str) -> str:
    """Return the name of the first product, for clients that ua-parser does not know."""
    words = re.split(r"[/\s;(]", text.strip(), maxsplit=1)
    return words[0][:LONGEST_NAME]


def _number(text: str) -> int:
    return int(text[:9]) if text[:9].isdecimal() else 0


def _kind(text: str, system: str) -> str:
    if _AUTOMATED.search(text) or (not text.startswith(_BROWSER) and _CLIENTS.search(text)):
        return "script"
    if _BOT.search(text):
        return "bot"
    if system in _TV_SYSTEMS or _TV.search(text):
        return "tv"
    return _personal(text, system)


def _personal(text: str, system: str) -> str:
    """Return `tablet`, `mobile`, `desktop` or `""`. Browsers on Android have "Mobile" on phones and not on tablets."""
    if _TABLET.search(text) or (system == "Android" and text.startswith(_BROWSER) and "Mobile" not in text):
        return "tablet"
    if system in _MOBILE_SYSTEMS:
        return "mobile"
    return "desktop" if system in _DESKTOP_SYSTEMS else ""
