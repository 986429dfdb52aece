"""The built-in mappings: one YAML file for each system."""

from __future__ import annotations

from functools import cache
from importlib import resources

import yaml

from schemas.decoding.mapping import BadMappingError, Mapping


def read_mapping(text: str) -> Mapping:
    """Return the mapping that a YAML document describes.

    Raises:
        BadMappingError: the text is not YAML, or the document is not a mapping.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise BadMappingError(f"not YAML at line {mark.line + 1}" if mark else "not YAML") from None
    return Mapping(document)


@cache
def builtin() -> dict[str, Mapping]:
    """Return the built-in mappings by name."""
    files = [each for each in resources.files(__name__).iterdir() if each.name.endswith(".yaml")]
    found = [read_mapping(each.read_text(encoding="utf-8")) for each in sorted(files, key=lambda each: each.name)]
    return {mapping.name: mapping for mapping in found}
