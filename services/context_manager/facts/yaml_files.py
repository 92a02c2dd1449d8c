"""YAML without surprises: plain values only, unknown tags ignored, several documents allowed."""

import yaml


class _Loader(yaml.CSafeLoader):
    """The safe loader, which passes over tags such as GitLab's `!reference` instead of failing."""


def _nothing(_loader: yaml.CSafeLoader, _suffix: str, _node: yaml.Node) -> None:
    return None


_Loader.add_multi_constructor("!", _nothing)


def documents(text: str) -> list[object]:
    """The documents in `text`; none when it is not YAML, or a template of it."""
    try:
        return list(yaml.load_all(text, Loader=_Loader))
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: a date such as 2024-99-99
        return []


def first(text: str) -> object:
    """The first document, or None."""
    return next(iter(documents(text)), None)
