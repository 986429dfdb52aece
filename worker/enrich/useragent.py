"""User agent strings to devices, by ua-parser and its regular expressions."""

from __future__ import annotations

import re

from ua_parser import parse

from worker.enrich.model import UNKNOWN_DEVICE, Device

LONGEST = 512
"""Longer strings are cut: what matters stands in front, and hostile ones must not cost more."""
_SCRIPTED = re.compile(
    r"python|aiohttp|httpx|urllib|requests|curl|wget|libwww|go-http|java/|apache-httpclient|okhttp-cli|axios|node-fetch|"
    r"undici|postman|insomnia|httpie|headless|phantomjs|puppeteer|playwright|selenium|scrapy|guzzle|ruby|perl|powershell|"
    r"restsharp|reqwest|hyper/|k6/|locust|mechanize|faraday",
    re.IGNORECASE,
)
_BOT = re.compile(r"bot\b|crawler|spider|slurp|facebookexternalhit|bingpreview", re.IGNORECASE)
_TABLET = re.compile(r"ipad|tablet|kindle|silk|playbook", re.IGNORECASE)
_TV = re.compile(r"smart-?tv|hbbtv|appletv|googletv|roku|web0s|webos|bravia|tizen.*tv", re.IGNORECASE)
_MOBILE_OS = frozenset({"iOS", "Android", "Windows Phone", "KaiOS", "BlackBerry OS", "HarmonyOS"})
_DESKTOP_OS = frozenset(
    {"Windows", "Mac OS X", "macOS", "Linux", "Ubuntu", "Fedora", "Debian", "Chrome OS", "FreeBSD", "OpenBSD"}
)


def device_of(user_agent: str) -> Device:
    """Return the device behind a user agent string; `UNKNOWN_DEVICE` when it cannot be told."""
    text = user_agent[:LONGEST]
    found = parse(text)
    browser = found.user_agent
    scripted = bool(_SCRIPTED.search(text))
    if browser is None or browser.family == "Other":
        return _by_name(text, scripted=scripted)
    system = found.os
    family = "" if system is None or system.family == "Other" else system.family
    return Device(
        browser.family,
        _number(browser.major),
        family,
        (system.major or "") if system and family else "",
        _kind(text, family, scripted=scripted),
        scripted,
    )


def _by_name(text: str, *, scripted: bool) -> Device:
    """Name a scripted client the parser does not know by its product token."""
    token = text.split("/", 1)[0].split(" ", 1)[0][:64]
    return Device(token, 0, "", "", "script", scripted=True) if scripted and token else UNKNOWN_DEVICE


def _number(text: str | None) -> int:
    return int(text[:9]) if text and text[:9].isdecimal() else 0


def _kind(text: str, family: str, *, scripted: bool) -> str:
    if scripted:
        return "script"
    if _BOT.search(text):
        return "bot"
    if _TV.search(text):
        return "tv"
    if _TABLET.search(text) or (family == "Android" and "Mobile" not in text and "Mozilla" in text):
        return "tablet"
    if family in _MOBILE_OS:
        return "mobile"
    return "desktop" if family in _DESKTOP_OS else ""
