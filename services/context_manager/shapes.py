"""Parsed documents of unknown shape, taken apart without trusting them.

JSON, TOML and YAML files of a workspace can hold anything anywhere; these functions answer with an empty value
of the expected kind instead of an error.
"""

from typing import cast


def mapping(value: object) -> dict[str, object]:
    """`value` as a mapping with text keys; empty when it is something else. Other keys are left out."""
    if not isinstance(value, dict):
        return {}
    return {key: held for key, held in cast("dict[object, object]", value).items() if isinstance(key, str)}


def items(value: object) -> list[object]:
    """`value` as a list; empty when it is something else."""
    return cast("list[object]", value) if isinstance(value, list) else []


def text(value: object) -> str:
    """`value` as one line of text; empty when it is something else."""
    return " ".join(value.split()) if isinstance(value, str) else ""


def texts(value: object) -> list[str]:
    """The texts in a list, or one text alone as a list."""
    return [value] if isinstance(value, str) else [item for item in items(value) if isinstance(item, str)]
