"""Check digits of cards, accounts, devices, vehicles and of the national numbers of some countries.

Owns one predicate a number, each from its published rule. All of them take the text as it stands in a file. Leaves
what a column of such texts means to `pii`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date
from typing import Final

_SEPARATORS: Final = re.compile(r"[ ./-]")
_CARD: Final = re.compile(r"\d{4}[ -]?\d{4,6}[ -]?\d{4,5}([ -]?\d{1,7})?")
_IBAN: Final = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")
_VIN: Final = re.compile(r"[A-HJ-NPR-Z0-9]{17}")
_DNI: Final = re.compile(r"[0-9XYZ]\d{7}[A-Z]")
_HETU: Final = re.compile(r"\d{6}[-+A-FU-Y]\d{3}[0-9A-Y]")
_FISCAL: Final = re.compile(r"[A-Z]{6}[0-9LMNPQRSTUV]{2}[ABCDEHLMPRST][0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{3}[A-Z]")
_VIN_VALUES: Final = dict(
    zip("ABCDEFGHJKLMNPRSTUVWXYZ", (1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 7, 9, 2, 3, 4, 5, 6, 7, 8, 9), strict=True)
)
_VIN_WEIGHTS: Final = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
_FISCAL_ODD: Final = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


def is_card(text: str) -> bool:
    """Whether it is a card number: 13 to 19 digits, a first digit that issuers use, Luhn (ISO/IEC 7812-1)."""
    if not _CARD.fullmatch(text):
        return False
    digits = _digits(text)
    return 13 <= len(digits) <= 19 and digits[0] in {2, 3, 4, 5, 6} and _luhn(digits)


def is_iban(text: str) -> bool:
    """Whether it is a bank account: the number modulo 97 is 1 (ISO 13616)."""
    plain = text.replace(" ", "").upper()
    if not _IBAN.fullmatch(plain):
        return False
    return int("".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])) % 97 == 1


def is_imei(text: str) -> bool:
    """Whether it is the number of a mobile device: 15 digits, Luhn (3GPP TS 23.003)."""
    digits = _digits(text)
    return len(digits) == 15 and _luhn(digits)


def is_vin(text: str) -> bool:
    """Whether it is a vehicle's number with its check digit in the ninth place (49 CFR 565)."""
    plain = text.upper()
    if not _VIN.fullmatch(plain):
        return False
    values = [int(sign) if sign.isdigit() else _VIN_VALUES[sign] for sign in plain]
    rest = sum(value * weight for value, weight in zip(values, _VIN_WEIGHTS, strict=True)) % 11
    return plain[8] == "0123456789X"[rest]


def is_dutch(text: str) -> bool:
    """Whether it is a burgerservicenummer: nine digits that pass the test by 11."""
    digits = _digits(text)
    return len(digits) == 9 and _weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0 and any(digits)


def is_polish(text: str) -> bool:
    """Whether it is a PESEL: eleven digits, a date of birth, weights 1 3 7 9."""
    digits = _digits(text)
    if len(digits) != 11 or _weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10:
        return False
    return _is_day(digits[2:4], digits[4:6], month_step=20)


def is_spanish(text: str) -> bool:
    """Whether it is a DNI or NIE: eight digits modulo 23 name the letter."""
    plain = _SEPARATORS.sub("", text).upper()
    if not _DNI.fullmatch(plain):
        return False
    number = int(plain[:-1].translate(str.maketrans("XYZ", "012")))
    return plain[-1] == "TRWAGMYFPDXBNJZSQVHLCKE"[number % 23]


def is_french(text: str) -> bool:
    """Whether it is a NIR: thirteen digits and 97 minus them modulo 97; Corsica counts as 19 and 18."""
    plain = _SEPARATORS.sub("", text).upper().replace("2A", "19", 1).replace("2B", "18", 1)
    if not re.fullmatch(r"[12]\d{14}", plain, re.ASCII):
        return False
    return int(plain[13:]) == 97 - int(plain[:13]) % 97


def is_italian(text: str) -> bool:
    """Whether it is a codice fiscale: sixteen signs, the last from the places of the others."""
    plain = text.strip().upper()
    if not _FISCAL.fullmatch(plain):
        return False
    values = [int(sign) if sign.isdigit() else ord(sign) - 65 for sign in plain[:15]]
    total = sum(_FISCAL_ODD[value] if place % 2 == 0 else value for place, value in enumerate(values))
    return plain[15] == chr(65 + total % 26)


def is_german(text: str) -> bool:
    """Whether it is a tax number of a person: eleven digits, ISO 7064 MOD 11,10."""
    digits = _digits(text)
    if len(digits) != 11 or digits[0] == 0 or len(set(digits[:10])) not in {8, 9}:
        return False
    product = 10
    for digit in digits[:10]:
        product = 2 * ((digit + product) % 10 or 10) % 11
    return (11 - product) % 10 == digits[10]


def is_belgian(text: str) -> bool:
    """Whether it is a national register number: nine digits (after a 2 if born since 2000) and a check by 97."""
    digits = _digits(text)
    if len(digits) != 11 or not _is_day(digits[2:4], digits[4:6], month_step=20):
        return False
    first, check = int("".join(map(str, digits[:9]))), digits[9] * 10 + digits[10]
    return check in {97 - first % 97, 97 - (2_000_000_000 + first) % 97}


def is_swedish(text: str) -> bool:
    """Whether it is a personnummer: a date of birth, three digits, Luhn over the last ten."""
    if not re.fullmatch(r"(\d{2})?\d{6}[-+]?\d{4}", text, re.ASCII):
        return False
    digits = _digits(text)[-10:]
    return _is_day(digits[2:4], digits[4:6]) and _luhn(digits)


def is_finnish(text: str) -> bool:
    """Whether it is a henkilötunnus: nine digits modulo 31 name the last sign."""
    plain = text.strip().upper()
    if not _HETU.fullmatch(plain):
        return False
    return plain[10] == "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(plain[:6] + plain[7:10]) % 31]


def is_british(text: str) -> bool:
    """Whether it is an NHS number: ten digits, weights 10 to 2, modulo 11."""
    if not re.fullmatch(r"\d{3}[ -]?\d{3}[ -]?\d{4}", text, re.ASCII):
        return False
    digits = _digits(text)
    return (11 - _weighted(digits[:9], range(10, 1, -1)) % 11) % 11 == digits[9]


NATIONAL: Final[dict[str, Callable[[str], bool]]] = {
    "Belgium": is_belgian,
    "Finland": is_finnish,
    "France": is_french,
    "Germany": is_german,
    "Italy": is_italian,
    "the Netherlands": is_dutch,
    "Poland": is_polish,
    "Spain": is_spanish,
    "Sweden": is_swedish,
    "the United Kingdom": is_british,
}


def _digits(text: str) -> list[int]:
    """Return the digits of a text that holds nothing else but separators, none of any other."""
    plain = _SEPARATORS.sub("", text)
    return [int(sign) for sign in plain] if plain.isascii() and plain.isdigit() else []


def _luhn(digits: Sequence[int]) -> bool:
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _weighted(digits: Sequence[int], weights: Sequence[int]) -> int:
    return sum(digit * weight for digit, weight in zip(digits, weights, strict=True))


def _is_day(month: Sequence[int], day: Sequence[int], *, month_step: int = 0) -> bool:
    """Whether two pairs of digits are a month and a day; some numbers add the century to the month."""
    number = month[0] * 10 + month[1]
    number = number % month_step if month_step else number
    return _exists(number, day[0] * 10 + day[1])


def _exists(month: int, day: int) -> bool:
    try:
        date(2000, month, day)
    except ValueError:
        return False
    return True
