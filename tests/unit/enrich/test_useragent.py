"""User agent strings, as clients send them, to devices."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.enrich.model import UNKNOWN_DEVICE, Device
from worker.enrich.useragent import LONGEST, LONGEST_NAME, device_of

WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
CHROME = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/141.0.0.0 Safari/537.36"

PEOPLE = [
    # Desktop browsers.
    (CHROME, Device("Chrome", 141, "Windows", "10", "desktop", False)),
    (f"{CHROME} Edg/141.0.3537.57", Device("Edge", 141, "Windows", "10", "desktop", False)),
    (
        "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        Device("Firefox", 128, "Linux", "", "desktop", False),
    ),
    (
        "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
        Device("Firefox", 133, "Ubuntu", "", "desktop", False),
    ),
    (
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "Version/18.1 Safari/605.1.15"
        ),
        Device("Safari", 18, "Mac OS X", "10", "desktop", False),
    ),
    (
        f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT} Chrome/130.0.0.0 Safari/537.36 OPR/115.0.0.0",
        Device("Opera", 115, "Mac OS X", "10", "desktop", False),
    ),
    (
        f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {WEBKIT} Chrome/130.0.0.0 Safari/537.36",
        Device("Chrome", 130, "Chrome OS", "14541", "desktop", False),
    ),
    # "Tablet PC" is no tablet.
    (
        "Mozilla/5.0 (Windows NT 6.1; Trident/7.0; Tablet PC 2.0; rv:11.0) like Gecko",
        Device("IE", 11, "Windows", "7", "desktop", False),
    ),
    # Phones.
    (
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "Version/17.5 Mobile/15E148 Safari/604.1"
        ),
        Device("Mobile Safari", 17, "iOS", "17", "mobile", False),
    ),
    (
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "CriOS/130.0.6723.90 Mobile/15E148 Safari/604.1"
        ),
        Device("Chrome Mobile iOS", 130, "iOS", "18", "mobile", False),
    ),
    (
        f"Mozilla/5.0 (Linux; Android 10; K) {WEBKIT} Chrome/141.0.0.0 Mobile Safari/537.36",
        Device("Chrome Mobile", 141, "Android", "10", "mobile", False),
    ),
    (
        (
            f"Mozilla/5.0 (Linux; Android 14; SAMSUNG SM-S921B) {WEBKIT} SamsungBrowser/26.0 Chrome/122.0.0.0 "
            "Mobile Safari/537.36"
        ),
        Device("Samsung Internet", 26, "Android", "14", "mobile", False),
    ),
    (
        "Mozilla/5.0 (Android 14; Mobile; rv:132.0) Gecko/132.0 Firefox/132.0",
        Device("Firefox Mobile", 132, "Android", "14", "mobile", False),
    ),
    (
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "Mobile/15E148 Instagram 340.0.3.27.92 (iPhone14,5; iOS 17_5; en_US)"
        ),
        Device("Instagram", 340, "iOS", "17", "mobile", False),
    ),
    # Cubot makes phones, not bots.
    (
        f"Mozilla/5.0 (Linux; Android 9; CUBOT_X19) {WEBKIT} Chrome/96.0.4664.45 Mobile Safari/537.36",
        Device("Chrome Mobile", 96, "Android", "9", "mobile", False),
    ),
    (
        f"Mozilla/5.0 (Linux; Android 10; Cubot) {WEBKIT} Chrome/96.0.4664.45 Mobile Safari/537.36",
        Device("Chrome Mobile", 96, "Android", "10", "mobile", False),
    ),
    # Tablets: "Android" without "Mobile" among them.
    (
        (
            "Mozilla/5.0 (iPad; CPU OS 12_5_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
            "Version/12.1.2 Mobile/15E148 Safari/604.1"
        ),
        Device("Mobile Safari", 12, "iOS", "12", "tablet", False),
    ),
    (
        f"Mozilla/5.0 (Linux; Android 12; SM-X906C) {WEBKIT} Chrome/80.0.3987.119 Safari/537.36",
        Device("Chrome", 80, "Android", "12", "tablet", False),
    ),
    (
        f"Mozilla/5.0 (Linux; Android 11; KFTRWI) {WEBKIT} Silk/108.4.6 like Chrome/108.0.5359.160 Safari/537.36",
        Device("Amazon Silk", 108, "Android", "11", "tablet", False),
    ),
    # Televisions.
    (
        f"Mozilla/5.0 (SMART-TV; Linux; Tizen 6.0) {WEBKIT} SamsungBrowser/4.0 Chrome/76.0.3809.146 TV Safari/537.36",
        Device("Samsung Internet", 4, "Tizen", "6", "tv", False),
    ),
    (
        f"Mozilla/5.0 (Web0S; Linux/SmartTV) {WEBKIT} Chrome/94.0.4606.128 Safari/537.36 WebAppManager",
        Device("Chrome", 94, "Web0S", "", "tv", False),
    ),
    (
        f"Mozilla/5.0 (Linux; Android 12; BRAVIA 4K VH2 Build/STT1) {WEBKIT} Chrome/122.0 Safari/537.36",
        Device("Chrome", 122, "Android", "12", "tv", False),
    ),
    ("Roku/DVP-12.0 (12.0.0.4182-88)", Device("Roku", 12, "Roku", "12", "tv", False)),
    ("AppleTV11,1/11.1", Device("", 0, "ATV OS X", "", "tv", False)),
    # Apps, which speak by libraries.
    ("okhttp/4.12.0", Device("okhttp", 4, "", "", "", False)),
    ("MyApp/12 CFNetwork/1496.0.7 Darwin/23.5.0", Device("MyApp", 12, "iOS", "17", "mobile", False)),
    (
        "Dalvik/2.1.0 (Linux; U; Android 13; Pixel 6 Build/TQ1A.221205.011)",
        Device("Android", 13, "Android", "13", "mobile", False),
    ),
    (
        f"Mozilla/5.0 (PlayStation; PlayStation 5/2.26) {WEBKIT} Version/13.0 Safari/605.1.15",
        Device("Safari", 13, "", "", "", False),
    ),
]
SCRIPTS = [
    ("curl/8.7.1", "curl", 8),
    ("Wget/1.21.4", "Wget", 1),
    ("python-requests/2.32.3", "Python Requests", 2),
    ("Python/3.11 aiohttp/3.10.5", "Python aiohttp", 3),
    ("python-httpx/0.27.2", "python-httpx", 0),
    ("Go-http-client/1.1", "Go-http-client", 1),
    ("Go-http-client/2.0", "Go-http-client", 2),
    ("axios/1.7.7", "axios", 1),
    ("node-fetch/1.0 (+https://github.com/bitinn/node-fetch)", "node-fetch", 0),
    ("Apache-HttpClient/4.5.14 (Java/17.0.9)", "Apache-HttpClient", 4),
    ("PostmanRuntime/7.42.0", "PostmanRuntime", 7),
    ("GuzzleHttp/7", "GuzzleHttp", 0),
    ("libwww-perl/6.67", "libwww-perl", 6),
    ("aws-cli/2.15.30 Python/3.11.8 Linux/5.10 exe/x86_64", "aws-cli", 2),
    ("sqlmap/1.8 (https://sqlmap.org)", "sqlmap", 0),
    ("Mozilla/5.0 (Windows NT; Windows NT 10.0; en-US) WindowsPowerShell/5.1.19041.4522", "WindowsPowerShell", 5),
    (f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} HeadlessChrome/129.0.0.0 Safari/537.36", "HeadlessChrome", 129),
    ("Mozilla/5.0 (Unknown; Linux x86_64) AppleWebKit/538.1 (KHTML, like Gecko) PhantomJS/2.1.1", "PhantomJS", 2),
]
BOTS = [
    ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "Googlebot"),
    (
        (
            f"Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) {WEBKIT} Chrome/141.0.0.0 Mobile Safari/537.36 "
            "(compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
        ),
        "Googlebot",
    ),
    ("Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)", "bingbot"),
    ("Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)", "Baiduspider"),
    ("facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", "FacebookBot"),
    ("Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "Slackbot-LinkExpanding"),
]
GARBAGE = ["", " ", "-", "unknown", "null", "Mozilla/5.0", "asdf qwer 1234", "\x00", "🙂", "()", "%s%s%n", "((((((("]


@pytest.mark.parametrize(("user_agent", "device"), PEOPLE)
def test_what_people_use(user_agent: str, device: Device) -> None:
    assert device_of(user_agent) == device
    assert not device.scripted


@pytest.mark.parametrize(("user_agent", "browser", "major"), SCRIPTS)
def test_scripted_clients(user_agent: str, browser: str, major: int) -> None:
    device = device_of(user_agent)
    assert (device.browser, device.browser_major, device.kind, device.scripted) == (browser, major, "script", True)


@pytest.mark.parametrize(("user_agent", "browser"), BOTS)
def test_bots_are_scripted_whatever_browser_they_look_like(user_agent: str, browser: str) -> None:
    device = device_of(user_agent)
    assert (device.browser, device.kind, device.scripted) == (browser, "bot", True)


@pytest.mark.parametrize("word", ["python", "curl", "Java/", "node", "perl", "Go-http"])
def test_a_browser_stays_one_whatever_words_follow(word: str) -> None:
    assert device_of(f"{CHROME} {word}").kind == "desktop"


@pytest.mark.parametrize("user_agent", GARBAGE)
def test_what_cannot_be_told_is_unknown(user_agent: str) -> None:
    assert device_of(user_agent) is UNKNOWN_DEVICE


def test_half_a_surrogate_pair_spoils_nothing() -> None:
    assert device_of("\ud800") is UNKNOWN_DEVICE
    assert device_of(f"{CHROME} \udfff") == device_of(CHROME)
    assert device_of("\ud83d\ude42 curl/8.7.1").kind == "script"


def test_an_upgrade_changes_the_major_version_alone() -> None:
    before, after = device_of(CHROME), device_of(CHROME.replace("141", "142"))
    assert (before.browser_major, after.browser_major) == (141, 142)
    assert (before.browser, before.os, before.kind) == (after.browser, after.os, after.kind)


def test_only_the_beginning_counts() -> None:
    assert device_of(CHROME + " " * 100_000 + "curl/8 bot") == device_of(CHROME)
    assert device_of("x" * LONGEST + " curl/8.7.1") is UNKNOWN_DEVICE


@pytest.mark.parametrize(
    "part", ["a", "(", "Mozilla/", "Chrome/9", "curl/9", "bot ", "Version/1.", "Android ", "\u20ac"]
)
def test_a_hundred_kilobytes_cost_no_more(part: str) -> None:
    device_of(CHROME)  # compiles the patterns
    text = (part * 100_000)[:100_000]
    begun = time.process_time()
    device = device_of(text)
    assert time.process_time() - begun < 0.1
    assert len(device.browser) <= LONGEST_NAME
    assert device == device_of(text[:LONGEST])


def test_names_that_are_any_word_of_the_string_are_cut() -> None:
    assert device_of("x" * 200 + "/12 CFNetwork/1 Darwin/23").browser == "x" * LONGEST_NAME
    assert device_of("node" + "x" * 200).browser == "node" + "x" * (LONGEST_NAME - 4)


@pytest.mark.parametrize("digits", ["9" * 400, "0" * 400, "1" * 10])
def test_versions_of_any_length_are_small_numbers(digits: str) -> None:
    device = device_of(f"curl/{digits}")
    assert (device.browser, device.kind) == ("curl", "script")
    assert 0 <= device.browser_major < 10**9


PIECES = st.sampled_from(
    ["Mozilla/5.0 ", "Opera/9.80 ", "(", ")", "; ", " ", "Windows NT 10.0", "Android 14", "iPhone; CPU iPhone OS 17_5",
     "iPad", "Mobile", "Tablet", "TV", "Chrome/", "Firefox/", "Version/", "Safari/", "141", "9" * 20, "1.", "curl/",
     "python-requests/", "Cubot", "bot", "Headless", "+https://", "\x00", "\ud800", "x" * 80, "CFNetwork/1 Darwin/23"]
)  # fmt: skip
KINDS = {"desktop", "mobile", "tablet", "tv", "bot", "script", ""}


@settings(max_examples=500, deadline=None)
@given(st.lists(PIECES, max_size=14).map("".join) | st.text(st.characters(codec=None), max_size=600))
@example("curl" + "é" * 700)
@example("y" * 300 + "bot/1.0")
def test_any_string_is_a_device_of_bounded_names(user_agent: str) -> None:
    device = device_of(user_agent)
    assert isinstance(device, Device)
    assert device.kind in KINDS
    assert device.scripted == (device.kind in {"bot", "script"})
    assert max(len(device.browser), len(device.os), len(device.os_major)) <= LONGEST_NAME
    assert 0 <= device.browser_major < 10**9
    assert device.browser or device.os or device is UNKNOWN_DEVICE
