"""Errors of the store.

StoreError
├── StoreUnreachableError    the server does not answer, or refuses the user: retry later, or check the DSN
│   └── BadDsnError          the DSN or its options are invalid: a retry does not help
├── StoreRefusedError        the server will never accept these rows: the worker stops with the reason
└── MigrationError           the migrations of this version and of the store differ, or one failed
"""

from __future__ import annotations


class StoreError(Exception):
    """Base of all errors of the store."""


class StoreUnreachableError(StoreError):
    """The store does not answer, or refuses the user."""


class BadDsnError(StoreUnreachableError):
    """The DSN of the store, or an option of the connection, is invalid."""


class StoreRefusedError(StoreError):
    """The store refuses a write for a reason that a retry does not fix."""


class MigrationError(StoreError):
    """A migration was changed after it was applied, is missing, or failed."""
