from __future__ import annotations

from importlib import import_module

import pytest

from worker.apps.errors import _CODES


@pytest.mark.parametrize("name", sorted(_CODES))
def test_every_exception_with_an_exit_code_exists(name: str) -> None:
    module, _, kind = name.rpartition(".")
    assert issubclass(getattr(import_module(module), kind), BaseException)
