"""Words that identity systems use for authentication methods and session types, and their meanings.

`METHODS` and `SESSION_TYPES` are the tables. A tenant's policy adds words or gives a word another meaning. Words are
compared without case, separators and namespaces: `Email/OTP`, `email_otp` and `urn:x:amr:email-otp` are equal.

Strengths are ordered. The most important boundary is between 3 and 4: up to 3 there is one factor, from 4 on two.

| strength | meaning |
|---|---|
| -1 | unknown: omitted, an unknown word, or authentication by another provider |
| 0 | no method |
| 1 | one factor: something known (password, PIN, security question) |
| 2 | one factor: a code or link by telephone or e-mail, or a printed code |
| 3 | one factor: a code of an application or token, an approval in an application, or a biometric |
| 4 | two factors, the second as in 2 |
| 5 | two factors, the second as in 3 |
| 6 | phishing-resistant: a key bound to the origin (FIDO2, passkey, smart card, certificate) |

Sources, by column of `_METHODS`: RFC 8176 section 2 (amr values); USSO `AuthSecret`; Ory Kratos
`identity.CredentialsType` and `session.AuthenticationMethod`; Hanko `amr`; Supabase Auth `models.AuthenticationMethod`
and `AuthenticatorAssuranceLevel`; Keycloak credential types; Okta factor types, `credentialType` of the System Log and
`amr` of its tokens; Auth0 `performed_amr` and OpenID's EAP ACR values (`phr`, `phrh`); Microsoft Entra ID
`authenticationMethodsUsed`, `authenticationMethod` and the `amr` claim. Levels follow NIST SP 800-63B-4.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

UNKNOWN, NONE, KNOWN_SECRET, MESSAGE, CODE, TWO_FACTORS_MESSAGE, TWO_FACTORS_CODE, PHISHING_RESISTANT = range(-1, 7)
TWO_FACTORS = TWO_FACTORS_MESSAGE
"""Strength from which an authentication used two different kinds of factors."""


class Method(StrEnum):
    """What an authentication method proves."""

    PHISHING_RESISTANT = "phishing-resistant"
    ONE_TIME_CODE = "one-time-code"
    """A code or approval of an application or hardware token."""
    OUT_OF_BAND = "out-of-band"
    """A code or link by telephone or e-mail, or a printed code."""
    PASSWORD = "password"  # noqa: S105  the name of a method, not a secret
    """Something known: password, PIN, security question."""
    BIOMETRIC = "biometric"
    MULTI_FACTOR = "multi-factor"
    """Two factors were used; the word does not say which."""
    SINGLE_FACTOR = "single-factor"
    """One factor was used; the word does not say which."""
    FEDERATED = "federated"
    """Another provider authenticated the user: strength unknown."""
    NO_FACTOR = "no-factor"
    """A property of the sign-in that proves nothing: presence, risk, place."""


class SessionClass(StrEnum):
    """Who holds a session, according to its type."""

    PERSON = "person"
    MACHINE = "machine"
    RECOVERY = "recovery"
    """A session that began with the recovery of an account or credential."""
    IMPERSONATION = "impersonation"
    """A member of staff acts as the user."""
    TEMPORARY = "temporary"
    """A session for a single access, or until a regular session begins."""
    UNKNOWN = ""


_METHODS = {
    Method.PHISHING_RESISTANT: """
        hwk sc pop fido fido2 u2f ctap2 webauthn webauthn-passwordless webauthn-platform webauthn-roaming passkey
        passkeys passkey-device-bound passkey-synced security-key securitykey fido2-security-key fido2-securitykey
        windows-hello windows-hello-for-business hello whfb ngc ngcmfa platform-credential signed-nonce fastpass
        okta-fastpass okta-verify-fastpass x509 x509-certificate x509-certificate-multifactor certificate
        certificate-based-authentication client-certificate cba mtls tls-client piv cac smart-card smartcard
        smart-card-idp phr phrh phishing-resistant aal3
    """,
    Method.ONE_TIME_CODE: """
        otp totp hotp swk rsa authenticator authenticator-app authenticatorapp google-authenticator google-otp
        microsoft-authenticator microsoft-authenticator-passwordless microsoft-authenticator-push-notification
        passwordless-microsoft-authenticator software-token-totp software-oath hardware-oath software-oath-token
        hardware-oath-token oath-verification-code verification-code-from-mobile-app mobile-app-verification-code oath
        mobile-app-notification app-notification notification push push-notification okta-verify okta-verify-push
        okta-verify-totp token token-software-totp token-hardware token-hotp token-rsa hardware-token software-token
        soft-token custom-otp custom-totp symantec-vip symantec rsa-securid securid onprem-mfa duo duo-push duo-security
        guardian auth0-guardian yubikey yubikey-otp yubikey-token passcode one-time-password one-time-passcode
        one-time-code app-verification-code otp-app app-otp app authy daon-bio web3 siwe siws wallet device-secret
        external-authentication-method
    """,
    Method.OUT_OF_BAND: """
        sms tel phone voice call text text-message sms-otp phone-otp sms-code phone-code phone-number mobile-sms
        mobile-phone whatsapp voice-call phone-call phone-call-approval phone-call-approval-authentication-phone
        phone-call-approval-office-phone phone-call-approval-alternate-mobile-phone two-way-voice-mobile
        two-way-voice-office two-way-voice-alternate-mobile one-way-sms two-way-sms email email-otp email-code
        email-link email-magic-link email-passcode email-verification email-signup email-change code magic-link
        magiclink magic link link-recovery code-recovery recovery invite magic-auth okta-email backup-code backup-codes
        recovery-code recovery-codes recovery-authn-codes lookup-secret scratch-code temporary-access-pass tap
        temp-access-pass one-time-access one-time-link ott qr-code qr
    """,
    Method.PASSWORD: """
        pwd password passwd passphrase pin kba pass basic ldap srp secret security-question security-questions
        question secret-question okta-password password-hash-sync password-in-the-cloud cloud-password
        pass-through-authentication password-grant username-password userpass local knowledge pattern
        pta phs pre-specified-password-hash
    """,
    Method.BIOMETRIC: "fpt face iris retina vbm biometric biometrics fingerprint face-id touch-id voiceprint",
    Method.MULTI_FACTOR: """
        mfa mca 2fa multi-factor multifactor two-factor multi-factor-authentication multipleauthn
        aal2 2fa-any
    """,
    Method.SINGLE_FACTOR: "aal1 1fa 1fa-any single-factor single-factor-authentication",
    Method.FEDERATED: """
        oauth oauth2 oauth2-token oidc openid openid-connect id-token idtoken saml saml2 sso sso-saml social
        social-login federated federation fed wsfed ws-federation external external-idp idp assertion jwt wia iwa
        kerberos negotiate spnego integrated-windows-authentication google github apple facebook microsoft linkedin
        twitter discord gitlab telegram telegram-token third-party thirdparty oauth-provider
        oauth-provider-authorization-code authorization-code partner external-auth cross-app-auth
    """,
    Method.NO_FACTOR: "user rba geo anonymous none presence captcha aal0",
}
_SESSION_TYPES = {
    SessionClass.PERSON: """
        user person human regular regular-login login interactive interactive-user interactiveuser web browser mobile
        native desktop sso standard default session oauth-session oauth non-interactive-user noninteractiveuser member
        customer employee normal password user-session
    """,
    SessionClass.MACHINE: """
        service service-account service-principal serviceprincipal managed-identity managedidentity machine
        machine-to-machine m2m api api-key apikey api-token oauth-client client client-credentials client-login daemon
        bot robot workload workload-identity system integration job automation ci deploy-token personal-access-token
        access-key access-token pat token application app-only daemon-app scim agent
    """,
    SessionClass.RECOVERY: """
        recovery account-recovery credential-recovery password-recovery password-reset reset-password
        forgot-password link-recovery code-recovery recovery-link recovery-code reset
    """,
    SessionClass.IMPERSONATION: """
        impersonation impersonate impersonated impersonator act-as actas login-as sign-in-as sudo masquerade
        delegated-admin support support-access admin-impersonation on-behalf-of assume-user
    """,
    SessionClass.TEMPORARY: """
        temporary temp one-time one-time-access one-time-token single-use guest anonymous invite invitation trial
        pending pre-auth preauth unverified onboarding device-code pairing
    """,
}
_SEPARATORS = re.compile(r"[^0-9a-z]+")
_NAMESPACES = re.compile(r"[:/#.]+")
_VENDORS = frozenset(
    (
        *("amr", "acr", "urn", "mfa", "authn", "method", "factor", "credential"),
        *("first", "second", "primary", "secondary"),
        *("okta", "google", "microsoft", "ms", "azure", "azuread", "entra", "auth0", "keycloak", "kc", "ory", "kratos"),
        *("hanko", "supabase", "usso", "aws", "cognito", "clerk", "workos"),
    )
)
"""First words that name a vendor or namespace and do not change the meaning."""
_PARTS = {
    Method.PHISHING_RESISTANT: frozenset(["webauthn", "fido", "fido2", "passkey", "u2f"]),
    Method.OUT_OF_BAND: frozenset(["sms", "tel", "telephone", "phone", "email", "mail", "voice", "whatsapp", "call"]),
    Method.ONE_TIME_CODE: frozenset(["totp", "hotp", "oath", "authenticator", "push"]),
}
"""Parts of a word that determine the method, whatever the other parts are. The first match counts."""
MAX_WORD = 128
Meaning = TypeVar("Meaning", bound=StrEnum)


def fold(word: str) -> str:
    """Return a word in lower case and without separators.

    >>> fold("Email/OTP"), fold("Passkey (device-bound)")
    ('emailotp', 'passkeydevicebound')
    """
    return _SEPARATORS.sub("", word[:MAX_WORD].casefold())


def _table(words: Mapping[Meaning, str]) -> dict[str, Meaning]:
    return {fold(word): meaning for meaning, each in words.items() for word in each.split()}


METHODS: Mapping[str, Method] = _table(_METHODS)
SESSION_TYPES: Mapping[str, SessionClass] = _table(_SESSION_TYPES)


def _candidates(word: str) -> Iterable[str]:
    """Yield a word folded: the whole of it, then without namespaces and names of vendors before it.

    >>> list(_candidates("urn:okta:amr:pwd"))
    ['urnoktaamrpwd', 'oktaamrpwd', 'amrpwd', 'pwd']
    """
    text = word[:MAX_WORD].casefold()
    yield _SEPARATORS.sub("", text)
    parts = [part for part in _NAMESPACES.split(text) if part]
    for start in range(1, len(parts)):
        yield _SEPARATORS.sub("", "".join(parts[start:]))
    tokens = [token for token in _SEPARATORS.split(text) if token]
    while len(tokens) > 1 and tokens[0] in _VENDORS:
        tokens = tokens[1:]
        yield "".join(tokens)


def _by_part(word: str) -> Method | None:
    tokens = set(_SEPARATORS.split(word[:MAX_WORD].casefold()))
    return next((method for method, parts in _PARTS.items() if parts & tokens), None)


class Vocabulary:
    """Meanings of words for one tenant: the tables, overridden by the words of the tenant's policy.

    Args:
        methods, session_types: meanings by word, from the policy.
    """

    def __init__(
        self, methods: Mapping[str, Method] | None = None, session_types: Mapping[str, SessionClass] | None = None
    ) -> None:
        self._methods = {**METHODS, **{fold(word): meaning for word, meaning in (methods or {}).items()}}
        self._types = {**SESSION_TYPES, **{fold(word): meaning for word, meaning in (session_types or {}).items()}}
        self._strengths: dict[tuple[str, ...], int] = {}
        self._classes: dict[str, SessionClass] = {}

    def method(self, word: str) -> Method | None:
        """Return the meaning of a word of `amr`; None for an unknown word."""
        found = next((self._methods[each] for each in _candidates(word) if each in self._methods), None)
        return found or _by_part(word)

    def strength(self, amr: tuple[str, ...] | None) -> int:
        """Return the strength of an authentication, see the module's table; `UNKNOWN` when `amr` was omitted."""
        if amr is None:
            return UNKNOWN
        known = self._strengths.get(amr)
        if known is None:
            if len(self._strengths) >= 1 << 10:
                self._strengths.clear()
            known = self._strengths[amr] = _strength([self.method(word) for word in amr])
        return known

    def session_class(self, word: str | None) -> SessionClass:
        """Return the class of a session type; `UNKNOWN` when the type was omitted or is unknown."""
        if not word:
            return SessionClass.UNKNOWN
        known = self._classes.get(word)
        if known is None:
            if len(self._classes) >= 1 << 10:
                self._classes.clear()
            found = (self._types[each] for each in _candidates(word) if each in self._types)
            known = self._classes[word] = next(found, SessionClass.UNKNOWN)
        return known


_KNOWLEDGE, _POSSESSION, _INHERENCE = "knowledge", "possession", "inherence"
_FACTOR = {
    Method.PASSWORD: _KNOWLEDGE,
    Method.OUT_OF_BAND: _POSSESSION,
    Method.ONE_TIME_CODE: _POSSESSION,
    Method.BIOMETRIC: _INHERENCE,
}
_ALONE = {
    Method.NO_FACTOR: NONE,
    Method.PASSWORD: KNOWN_SECRET,
    Method.SINGLE_FACTOR: KNOWN_SECRET,
    Method.OUT_OF_BAND: MESSAGE,
    Method.ONE_TIME_CODE: CODE,
    Method.BIOMETRIC: CODE,
}


def _strength(methods: list[Method | None]) -> int:
    """Return the combined strength of methods. Two factors means two different kinds, not two words."""
    if Method.PHISHING_RESISTANT in methods:
        return PHISHING_RESISTANT
    kinds = {_FACTOR[method] for method in methods if method in _FACTOR}
    best = max((_ALONE.get(method, NONE) for method in methods if method), default=NONE)
    if len(kinds) > 1 or Method.MULTI_FACTOR in methods:
        return TWO_FACTORS_MESSAGE if best == MESSAGE else TWO_FACTORS_CODE
    # An unknown word, or another provider, may mean a second factor or a stronger one.
    if None in methods or Method.FEDERATED in methods:
        return UNKNOWN
    return best


DEFAULT_VOCABULARY = Vocabulary()
"""The built-in tables, for tenants whose policy adds no words."""
