"""Personal data, recognised by a column's name, its patterns and its check digits.

Owns which kinds are looked for and that such a column is masked: no feature, and none of its values in a contract, a
profile or a stored row. Leaves rules for regulated data to people.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from mlsystem.data.audit import Audit
from mlsystem.data.findings import Finding
from mlsystem.data.reader import Rows
from mlsystem.data.scan import Scan, counts, null_list
from mlsystem.spec import ReaderOptions

_SAMPLE: Final = 200  # most frequent values that are looked at
_HOLDS: Final = 0.8

_NAMES: Final = {
    "e-mail addresses": re.compile(r"e[-_ ]?mail", re.IGNORECASE),
    "telephone numbers": re.compile(
        r"(^|[_\s-])(phone|telephone|mobile|fax|tel)([_\s-]?(no|nr|number))?$", re.IGNORECASE
    ),
    "social security numbers": re.compile(r"(^|[_\s-])(ssn|social[_ ]?security)", re.IGNORECASE),
    "card numbers": re.compile(r"(credit|debit)?[_ ]?card[_ ]?(no|nr|number)|(^|_)pan$", re.IGNORECASE),
    "bank accounts": re.compile(r"(^|[_\s-])iban($|[_\s-])", re.IGNORECASE),
    "passport numbers": re.compile(r"passport", re.IGNORECASE),
    "names of people": re.compile(r"(first|last|full|given|family)[_\s-]?name|^surname$", re.IGNORECASE),
    "addresses": re.compile(r"(street|home|postal|ip)[_\s-]?addr(ess)?|^address$", re.IGNORECASE),
}
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}")
_PHONE: Final = re.compile(r"\+\d[\d\s()./-]{7,18}|\(\d{3}\) ?\d{3}-\d{4}|\d{3}-\d{3}-\d{4}")
_SSN: Final = re.compile(r"\d{3}-\d{2}-\d{4}")
_CARD: Final = re.compile(r"\d{4}[ -]?\d{4}[ -]?\d{4}[ -]?\d{1,7}")
_IBAN: Final = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")


def personal_data(audited: Audit) -> Iterator[Finding]:
    """Yield a finding for each column that holds personal data."""
    for name in audited.rows.names:
        role = audited.roles[name].role
        if role in {"target", "weight", "time", "label_time"}:
            continue
        if what := kind_of_personal_data(audited.rows, audited.scans[name], audited.spec.data.reader):
            text = f"{name!r} looks like {what}: it is no feature, and its values are kept out of contract and reports."
            yield Finding("pii", (name,), "masked", text, "ignore")


def kind_of_personal_data(rows: Rows, scan: Scan, options: ReaderOptions) -> str:
    """Return what personal data a column holds, "" if none is recognised."""
    if scan.moment or scan.type == "number":
        return ""
    texts = [text for text, _ in counts(rows, scan.name, null_list(options), _SAMPLE)]
    for what, fits in _CONTENTS.items():
        if _mostly(texts, fits):
            return what
    if scan.type == "integer" and scan.texts.characters < 7:
        return ""
    many = scan.texts.distinct > 0.1 * scan.texts.present  # a flag such as has_email is not personal
    return next((what for what, name in _NAMES.items() if many and name.search(scan.name)), "")


def _mostly(texts: Sequence[str], fits: Callable[[str], bool]) -> bool:
    return len(texts) >= 5 and sum(1 for text in texts if fits(text)) >= _HOLDS * len(texts)


def _is_card(text: str) -> bool:
    """Whether the digits pass the check of card numbers (Luhn, ISO/IEC 7812-1)."""
    if not _CARD.fullmatch(text):
        return False
    digits = [int(sign) for sign in reversed(text) if sign.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_iban(text: str) -> bool:
    """Whether the text passes the check of bank accounts (ISO 13616: the number modulo 97 is 1)."""
    plain = text.replace(" ", "")
    if not _IBAN.fullmatch(plain):
        return False
    return int("".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])) % 97 == 1


_CONTENTS: Final[dict[str, Callable[[str], bool]]] = {
    "e-mail addresses": lambda text: _EMAIL.fullmatch(text) is not None,
    "social security numbers": lambda text: _SSN.fullmatch(text) is not None,
    "telephone numbers": lambda text: _PHONE.fullmatch(text) is not None,
    "bank accounts": _is_iban,
    "card numbers": _is_card,
}
