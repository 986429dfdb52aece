"""What can go wrong with the store.

StoreError
├── StoreUnreachableError    nobody answers, or not to us: try again later, or look at the DSN
│   └── BadDsnError          the DSN or its options make no sense: nobody ever will
├── StoreRefusedError        the store will never take this: the worker must stop and say so
└── MigrationError           migrations and store do not fit together
"""

from __future__ import annotations


class StoreError(Exception):
    """Base of all errors of the store."""


class StoreUnreachableError(StoreError):
    """The store does not answer, or refuses the user."""


class BadDsnError(StoreUnreachableError):
    """The DSN of the store, or an option of the connection, makes no sense."""


class StoreRefusedError(StoreError):
    """The store refuses a write for a reason that waiting does not cure."""


class MigrationError(StoreError):
    """A migration was changed after it was applied, is missing, or failed."""
