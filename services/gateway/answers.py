"""Answers that people give: `slot.field=value` on the command line, or a TOML file of `[slot]` tables.

Every key is checked against the questions there are, all wrong ones are named at once with the nearest known
name, and nothing is published before. Left out: what an answer means (the agent that asked).
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from contracts.events import AnswerValue
from contracts.slots import QUESTION_IDS, SLOTS
from services.gateway.exits import Usage

Given = Mapping[str, AnswerValue]


def gathered(pairs: Sequence[str], file: str | None) -> dict[str, AnswerValue]:
    """Answers of a file and of `id=value` pairs, which win.

    Raises: Usage for a file that cannot be read, an unknown key, or a value that is no answer.
    """
    found = read_file(Path(file)) if file else {}
    return {**found, **read_pairs(pairs)}


def read_pairs(pairs: Sequence[str]) -> dict[str, AnswerValue]:
    """`nfr.latency=20 ms` -> {"nfr.latency": "20 ms"}. Raises Usage."""
    split = [pair.partition("=") for pair in pairs]
    for key, equals, value in split:
        if not equals or not value.strip():
            raise Usage(f"{key!r} is no answer: write it as slot.field=value, such as nfr.latency='20 ms'")
    found: dict[str, AnswerValue] = {key.strip(): value.strip() for key, _, value in split}
    _check(found, "")
    return found


def read_file(path: Path) -> dict[str, AnswerValue]:
    """The answers in a TOML file. Raises Usage."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Usage(f"answers file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Usage(f"answers file {path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise Usage(f"answers file {path} is not TOML: {error}; write [slot] tables with field = value") from error
    found = dict(_flattened(path, tables))
    _check(found, f"answers file {path}: ")
    return found


def _flattened(path: Path, tables: Mapping[str, Any]) -> Iterator[tuple[str, AnswerValue]]:
    for slot, fields in tables.items():
        if not isinstance(fields, dict):
            raise Usage(
                f"answers file {path}: {slot!r} stands outside a table: write it under one of"
                f" {', '.join(f'[{name}]' for name in SLOTS)}"
            )
        for name, value in cast("dict[str, Any]", fields).items():
            yield f"{slot}.{name}", _answer(path, f"{slot}.{name}", value)


def _answer(path: Path, key: str, value: object) -> AnswerValue:
    if isinstance(value, str | bool | int | float):
        return value
    kind = type(value).__name__
    if isinstance(value, list):
        parts = cast("list[object]", value)
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) == len(parts):
            return texts
    raise Usage(
        f"answers file {path}: {key} is a {kind}: an answer is a text, a number, true or false, or a list of texts"
    )


def _check(found: Given, where: str) -> None:
    unknown = [key for key in found if key not in QUESTION_IDS]
    if unknown:
        raise Usage(where + "; ".join(f"nothing is asked under {key!r}{_nearest(key)}" for key in unknown))


def _nearest(key: str) -> str:
    """The known id that was probably meant: by the whole id first, else by its field."""
    close = difflib.get_close_matches(key, QUESTION_IDS, n=1)
    if not close:
        fields = {name.partition(".")[2]: name for name in QUESTION_IDS}
        close = [fields[name] for name in difflib.get_close_matches(key.partition(".")[2] or key, fields, n=1)]
    return f", did you mean {close[0]!r}?" if close else f": known are {', '.join(QUESTION_IDS)}"
