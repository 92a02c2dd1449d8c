"""Secrets out of text: at every boundary (tool result -> model, message -> bus, log line, stored chunk).

Owns the dozen anchored patterns of what a secret looks like and the one function that blanks them. A pattern
runs only when one of its hints occurs in the text, which keeps 250 KB within some tens of milliseconds. It
looks at form alone: it never asks whether a secret is valid, and it leaves names, hosts and placeholders
readable.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class _Rule:
    """One kind of secret. The group `secret` is blanked, or the whole match; a group `name` must sound secret."""

    kind: str
    hints: tuple[str, ...]
    """Lower-case texts of which one occurs in every match."""
    pattern: re.Pattern[str]


_START: Final = r"(?<![A-Za-z0-9_-])"
_SECRET_NAME: Final = re.compile(
    r"pass(?:word|wd|phrase)|secret|(?:api|access|private|auth|account|signing|encryption)[_-]?key|token(?!s)|credential",
    re.IGNORECASE,
)
_SEED: Final = "S[AUONC][A-Z2-7]{56}"
_NAME_HINTS: Final = ("passw", "passp", "secret", "key", "token", "credential")


def _rule(kind: str, hints: tuple[str, ...], pattern: str, flags: int = 0) -> _Rule:
    return _Rule(kind, hints, re.compile(pattern, flags))


_RULES: Final = (
    _rule(
        "private key",
        ("private key-----",),
        r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----.*?(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY-----|\Z)",
        re.DOTALL,
    ),
    _rule("json web token", ("eyj",), _START + r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"),
    _rule("anthropic key", ("sk-ant-",), _START + r"sk-ant-[\w-]{16,}"),
    _rule("openai key", ("sk-",), _START + r"sk-(?!ant-)(?:proj-|svcacct-)?[A-Za-z0-9_-]{20,}"),
    _rule("aws key id", ("akia", "asia"), _START + r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _rule(
        "github token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        _START + r"(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,})",
    ),
    _rule("gitlab token", ("glpat-",), _START + r"glpat-[\w-]{16,}"),
    _rule("slack token", ("xox",), _START + r"xox[abeoprs]-[A-Za-z0-9-]{10,}"),
    _rule("google key", ("aiza",), _START + r"AIza[\w-]{35}(?![\w-])"),
    _rule(
        "payment key",
        ("k_live_", "k_test_", "whsec_"),
        _START + r"(?:[sr]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9]{16,})",
    ),
    _rule("model hub token", ("hf_",), _START + r"hf_[A-Za-z0-9]{30,}"),
    _rule("package token", ("npm_", "pypi-"), _START + r"(?:npm_[A-Za-z0-9]{36}|pypi-[\w-]{40,})"),
    _rule("nkey seed", ("sa", "su", "so", "sn", "sc"), rf"\b{_SEED}(?![A-Z0-9])"),
    _rule("url password", ("://",), r"://[^\s/:@'\"]*:(?P<secret>[^\s/@'\"$<{\[][^\s/@'\"]*)@"),
    _rule("authorization", ("bearer ", "basic "), r"(?i:bearer|basic)\s+(?P<secret>[A-Za-z0-9+/._~-]{16,}=*)"),
    _rule(
        "value",
        _NAME_HINTS,
        _START
        + r"(?P<name>[\w-]{3,64})[\"']?[ \t]*(?:=>|:=|[:=])[ \t]*(?P<quote>[\"'])(?P<secret>(?![$<{\[])[^\"'\s]{8,})"
        r"(?P=quote)",
    ),
    _rule(
        "value",
        _NAME_HINTS,
        _START + r"(?P<name>[\w-]{3,64})[ \t]*[:=][ \t]*"
        r"(?P<secret>(?=[A-Za-z+/_-]*\d)(?=\d*[A-Za-z])[A-Za-z0-9+/_=-]{12,})(?![\w.(\[])",
    ),
    _rule(
        "value",
        _NAME_HINTS,
        r"^[ \t]*(?:export[ \t]+|-[ \t]+)?(?P<name>\w{3,64})=(?P<secret>(?![$<{\[\"'])[^\s\"'()\[\]]{6,})(?<!,)[ \t]*$",
        re.MULTILINE,
    ),
)


_NKEY: Final = re.compile(_SEED)
_HINTS: Final = tuple(dict.fromkeys(hint for rule in _RULES for hint in rule.hints if len(hint) > 2))
"""Of which one occurs in every text that a rule concerns, seeds aside: most texts are done with a look for them."""


def redact(text: str) -> str:
    """`text` with everything that looks like a secret replaced by `[redacted <kind>]`; names and hosts stay.

    Idempotent: redacted text comes back unchanged.
    """
    for rule in _hinted(text):
        text = rule.pattern.sub(lambda match, kind=rule.kind: _blank(match, kind), text)
    return text


def secrets_in(text: str) -> tuple[str, ...]:
    """The kinds of secrets that `text` seems to hold, each once, in the order of the rules."""
    found = (rule.kind for rule in _hinted(text) if any(_sounds_secret(m) for m in rule.pattern.finditer(text)))
    return tuple(dict.fromkeys(found))


def _hinted(text: str) -> Iterable[_Rule]:
    lowered = text.lower()
    if not any(map(lowered.__contains__, _HINTS)) and _NKEY.search(text) is None:
        return ()
    return (rule for rule in _RULES if any(hint in lowered for hint in rule.hints))


def _blank(match: re.Match[str], kind: str) -> str:
    if not _sounds_secret(match):
        return match.group(0)
    mark = f"[redacted {kind}]"
    if "secret" not in match.re.groupindex:
        return mark
    whole, start = match.group(0), match.start()
    return whole[: match.start("secret") - start] + mark + whole[match.end("secret") - start :]


def _sounds_secret(match: re.Match[str]) -> bool:
    return "name" not in match.re.groupindex or _SECRET_NAME.search(match.group("name")) is not None
