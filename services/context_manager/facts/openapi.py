"""Interfaces from OpenAPI documents: title, operations, service levels in `x-` fields, personal fields."""

import json
import re
from collections.abc import Iterator
from typing import Final

from services.context_manager.facts import quantities, yaml_files
from services.context_manager.facts.finding import DECLARED, Finding, Source
from services.context_manager.shapes import items, mapping, text

_MARK: Final = re.compile(r"^[ \t{]*[\"']?(?:openapi|swagger)[\"']?[ \t]*:", re.MULTILINE)
_METHODS: Final = ("get", "post", "put", "patch", "delete", "head", "options", "trace")
_OPERATIONS: Final = 8
_NODES: Final = 50_000
"""A document with more nodes than this is looked at no further."""
_AMOUNT: Final = re.compile(
    rf"[<≤~]?\s*(?P<amount>{quantities.NUMBER})\s*(?P<unit>ms|milliseconds?|s|sec(?:onds?)?|%|rps|qps|x)?\s*",
    re.IGNORECASE,
)
_PERCENTILE: Final = re.compile(r"p(50|90|95|99|999)(?!\d)")
_LIMIT: Final = re.compile(r"limit|throttl|quota|timeout|retry")


def matches(path: str) -> bool:
    """Whether the file could be an OpenAPI document; `extract` looks for the mark in its text."""
    return path.endswith((".yaml", ".yml", ".json"))


def extract(source: Source) -> Iterator[Finding]:
    """What the document declares."""
    if not _MARK.search(source.text[:20_000]):
        return
    document = _parsed(source)
    information, paths = mapping(document.get("info")), mapping(document.get("paths"))
    if not information and not paths:
        return
    yield from _interface(source, information, paths)
    for key, value, parent in _fields(document):
        if key.startswith("x-"):
            yield from _extension(source, key, value, parent)


def _parsed(source: Source) -> dict[str, object]:
    if source.path.endswith(".json"):
        try:
            return mapping(json.loads(source.text))
        except (ValueError, RecursionError):
            return {}
    return mapping(yaml_files.first(source.text))


def _interface(source: Source, information: dict[str, object], paths: dict[str, object]) -> Iterator[Finding]:
    operations = [
        f"{method.upper()} {path}" for path, item in paths.items() for method in _METHODS if method in mapping(item)
    ]
    title = text(information.get("title")) or "untitled"
    shown = ", ".join(operations[:_OPERATIONS]) + (", …" if len(operations) > _OPERATIONS else "")
    version = information.get("version")
    named = f"{title} {version}" if isinstance(version, str | int | float) else title
    value = f"{named}: {len(operations)} operation{'' if len(operations) == 1 else 's'}{f': {shown}' if shown else ''}"
    yield Finding("stack", "api", value, source.line_of("title"), DECLARED)


def _fields(document: dict[str, object]) -> Iterator[tuple[str, object, str]]:
    """Every key with its value and the key above it. Aliases can make a document endless: each node counts once."""
    pending: list[tuple[str, object]] = [("", document)]
    seen = set[int]()
    while pending and len(seen) < _NODES:
        parent, node = pending.pop()
        held, listed = mapping(node), items(node)
        if id(node) in seen or not (held or listed):
            continue
        seen.add(id(node))
        for key, value in held.items():
            yield key, value, parent
            pending.append((key, value))
        pending.extend((parent, item) for item in listed)


def _extension(source: Source, key: str, value: object, parent: str) -> Iterator[Finding]:
    """The facts in one `x-` field: a value of its own, or a mapping of them such as `x-slo: {p99_ms: 20}`."""
    line = source.line_of(key)
    if inside := mapping(value):
        for name, inner in inside.items():
            yield from _level(f"{key}-{name}".lower(), inner, source.line_of(name, start=line))
    elif value is True and re.search(r"pii|personal|sensitive", key, re.IGNORECASE):
        yield Finding("security", "pii", f"field {parent} in {source.path}", line, DECLARED)
    else:
        yield from _level(key.lower(), value, line)


def _level(name: str, value: object, line: int) -> Iterator[Finding]:
    """A service level named `name`: latency, availability, rate or peak, with the unit in the name or the value."""
    match = _AMOUNT.match(str(value)) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    if match is None or _LIMIT.search(name):
        return
    amount, unit = match["amount"], (match["unit"] or "").lower()
    if re.search(r"latency|response-?_?time|p9\d", name):
        yield from _latency(name + str(value).lower(), amount, unit or _unit_in(name), line)
    elif re.search(r"availab|uptime", name):
        yield Finding("nfr", "availability", f"{_percent(amount, unit)} %", line, DECLARED)
    elif re.search(r"peak|spike|burst", name):
        told = f"peak {quantities.written(quantities.number(amount))}x" if unit == "x" or "factor" in name else ""
        yield Finding("scale", "spikes", told or quantities.per_second(quantities.number(amount), "s"), line, DECLARED)
    elif re.search(r"rps|qps|requests?[-_]per[-_]second|throughput|(?:^|[-_])rate(?:$|[-_])", name) and unit in {
        "",
        "rps",
        "qps",
    }:
        yield Finding("scale", "rate", quantities.per_second(quantities.number(amount), "s"), line, DECLARED)


def _latency(said: str, amount: str, unit: str, line: int) -> Iterator[Finding]:
    if not unit or unit[0] not in "ms":
        return  # a number without a unit could be either
    percentile = _PERCENTILE.search(said)
    named = f" p{'99.9' if percentile[1] == '999' else percentile[1]}" if percentile else ""
    yield Finding("nfr", "latency", f"{quantities.milliseconds(amount, unit)}{named}", line, DECLARED)


def _unit_in(name: str) -> str:
    if re.search(r"(?:^|[-_])(?:ms|millis(?:econds)?)(?:$|[-_])", name):
        return "ms"
    return "s" if re.search(r"(?:^|[-_])(?:s|sec|seconds)(?:$|[-_])", name) else ""


def _percent(amount: str, unit: str) -> str:
    """A share written as 0.999 without a percent sign is 99.9."""
    value = float(amount.replace(",", ""))
    return f"{value * 100:.6g}" if value <= 1 and unit != "%" else amount
