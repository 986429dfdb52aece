"""What words of identity systems mean; each line of the tables below is quoted from that system's documentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas import vocabulary
from schemas.policy import DEFAULT_POLICY, TenantPolicy
from schemas.vocabulary import DEFAULT_VOCABULARY, METHODS, SESSION_TYPES, SessionClass, fold

STRENGTHS = [
    # RFC 8176
    (("pwd",), 1), (("pin",), 1), (("kba", "pwd"), 1), (("otp", "pwd"), 5), (("pwd", "sms"), 4), (("hwk",), 6),
    (("mfa", "pwd"), 5), (("face", "pin"), 5), (("otp",), 3), (("tel",), 2), (("user",), 0), (("pwd", "user"), 1),
    # USSO
    (("password",), 1), (("password", "totp"), 5), (("email/otp",), 2), (("password", "phone/otp"), 4),
    (("password", "backup_codes"), 4), (("webauthn",), 6), (("magic_link",), 2), (("oauth",), -1), (("id_token",), -1),
    (("telegram_token",), -1), (("email/otp", "magic_link"), 2),
    # Ory Kratos
    (("lookup_secret", "password"), 4), (("code",), 2), (("oidc",), -1), (("link_recovery",), 2), (("passkey",), 6),
    # Hanko, Supabase, Keycloak
    (("pwd", "security_key"), 6), (("password", "mfa/totp"), 5), (("aal2",), 5), (("aal1", "password"), 1),
    (("sso/saml",), -1), (("magiclink",), 2), (("recovery-authn-codes",), 2), (("webauthn-passwordless",), 6),
    # Okta, Auth0
    (("okta_verify", "pwd"), 5), (("PASSWORD", "token:software:totp"), 5), (("signed_nonce",), 6), (("phr",), 6),
    (("PASSWORD", "SMS"), 4), (("security_question", "okta_password"), 1), (("ASSERTION",), -1),
    (("recovery-code",), 2), (("guardian", "pwd"), 5),
    # Microsoft Entra ID
    (("Password",), 1), (("Mobile app notification", "Password"), 5), (("Passkey (device-bound)",), 6),
    (("Windows Hello for Business",), 6), (("Password", "Text message"), 4), (("X.509 Certificate",), 6),
    (("ngcmfa", "rsa"), 6), (("Previously satisfied",), -1), (("wia",), -1),
    (("OATH verification code", "Password"), 5), (("OATH hardware tokens", "Password"), 5), (("PHS",), 1),
    (("App Verification code", "Password"), 5), (("PTA",), 1),
    # WorkOS
    (("magic_auth",), 2), (("external_auth",), -1), (("cross_app_auth",), -1), (("migrated_session",), -1),
    # Nobody
    (("quantum-handshake",), -1), (("pwd", "quantum-handshake"), -1), (("otp", "pwd", "quantum-handshake"), 5),
    (("no_mfa",), -1), (("forgot_password",), -1), ((), 0), (None, -1),
]  # fmt: skip
CLASSES = [
    # USSO
    ("regular_login", "person"), ("temporary", "temporary"), ("account_recovery", "recovery"),
    ("credential_recovery", "recovery"), ("impersonation", "impersonation"), ("api_key", "machine"),
    ("oauth_client", "machine"), ("oauth_session", "person"), ("service_account", "machine"),
    ("one_time_access", "temporary"),
    # Microsoft Entra ID, Keycloak and others
    ("servicePrincipal", "machine"), ("managedIdentity", "machine"), ("interactiveUser", "person"),
    ("CLIENT_LOGIN", "machine"), ("IMPERSONATE", "impersonation"), ("Service", "machine"), ("user", "person"),
    ("m2m", "machine"), ("keycloak:service-account", "machine"), ("spaceship", ""), (None, ""),
]  # fmt: skip


@pytest.mark.parametrize(("amr", "level"), STRENGTHS)
def test_strength_of_an_authentication(amr: tuple[str, ...] | None, level: int) -> None:
    assert DEFAULT_VOCABULARY.strength(amr) == level


@pytest.mark.parametrize(("word", "expected"), CLASSES)
def test_class_of_a_session_type(word: str | None, expected: str) -> None:
    assert DEFAULT_VOCABULARY.session_class(word) == expected


@given(st.sampled_from(sorted(METHODS)), st.sampled_from(["", "_", "-", " ", "."]), st.sampled_from([str.upper, str]))
def test_case_and_separators_do_not_matter(word: str, separator: str, spell: Callable[[str], str]) -> None:
    spelled = separator.join((word[:2], word[2:])) if len(word) > 2 else word
    assert DEFAULT_VOCABULARY.method(spell(spelled)) is METHODS[word]


@given(st.lists(st.text(max_size=20), max_size=4))
def test_no_word_raises_and_an_unknown_word_is_never_weak(words: list[str]) -> None:
    level = DEFAULT_VOCABULARY.strength(tuple(words))
    known = [DEFAULT_VOCABULARY.method(word) for word in words]
    assert -1 <= level <= 6
    assert None not in known or level == -1 or level >= 4


def test_words_of_a_policy_come_first() -> None:
    policy = TenantPolicy.model_validate(
        {"methods": {"Corp Badge": "phishing-resistant", "otp": "out-of-band"}, "session_types": {"kiosk": "machine"}}
    )
    assert policy.vocabulary.strength(("corp_badge",)) == 6
    assert policy.vocabulary.strength(("otp", "pwd")) == 4
    assert policy.vocabulary.strength(("pwd", "totp")) == 5
    assert policy.vocabulary.session_class("Kiosk") is SessionClass.MACHINE
    assert DEFAULT_POLICY.vocabulary is DEFAULT_VOCABULARY


def test_a_policy_with_a_wrong_meaning_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"methods\.x"):
        TenantPolicy.model_validate({"methods": {"x": "strong"}})


@pytest.mark.parametrize(
    ("table", "words"), [(METHODS, vocabulary._METHODS), (SESSION_TYPES, vocabulary._SESSION_TYPES)]
)
def test_no_word_has_two_meanings(table: Mapping[str, object], words: Mapping[object, str]) -> None:
    pairs = {(fold(word), meaning) for meaning, each in words.items() for word in each.split()}
    assert len(pairs) == len(table)
    assert {meaning for _, meaning in pairs} | {SessionClass.UNKNOWN} >= set(type(next(iter(words))))  # type: ignore[call-overload]
