"""The kinds of personal data: what each is called, how it is known, and which identifier of HIPAA it is.

Owns the table of detectors: words in a column's name, patterns and check digits of values. The number is that of the
eighteen identifiers of the safe harbor (45 CFR 164.514(b)(2)). A kind that names a person by itself is direct; the
others identify in combination and are identifiers under a regime that says so. Leaves judging a column to `pii`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from mlsystem.boundary import OLDEST
from mlsystem.governance import checksums

Kind = Literal[
    "email",
    "ssn",
    "iban",
    "card",
    "vehicle",
    "device",
    "ip",
    "phone",
    "address",
    "national_id",
    "passport",
    "medical_record",
    "health_plan",
    "account",
    "licence",
    "biometric",
    "photo",
    "name",
    "url",
    "postcode",
    "place",
    "coordinates",
    "birth",
    "age",
    "date",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """How one kind is known."""

    kind: Kind
    words: str
    """What it is, in the plural."""
    hipaa: int
    """Which of the eighteen identifiers."""
    direct: bool = True
    """Whether it names a person by itself."""
    named: re.Pattern[str] | None = None
    """Found in the words of a column's name."""
    shaped: Callable[[str], bool] | None = None
    digits: bool = False
    """Whether the pattern is digits with a check digit and no more, so that it takes many values to be sure."""


def _named(*alternatives: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(alternatives)})\b")


def _full(*alternatives: str) -> Callable[[str], bool]:
    compiled = re.compile("|".join(alternatives), re.ASCII)
    return lambda text: compiled.fullmatch(text) is not None


def _street(text: str) -> bool:
    return _STREET.fullmatch(text) is not None


def _is_phone(text: str) -> bool:
    """Whether it is written as telephone numbers are and has 7 to 15 digits (ITU E.164), extensions aside."""
    found = _PHONE.fullmatch(text)
    return found is not None and 7 <= sum(sign.isdigit() for sign in found.group("number")) <= 15


def _is_ip(text: str) -> bool:
    """Whether it is an address of the Internet protocol; a version such as 1.2.3 is none."""
    if text.count(".") != 3 and text.count(":") < 2:
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


_NUMBER: Final = "(no|nr|num|number)"
_PHONE: Final = re.compile(
    r"(?P<number>\+\d[\d\s()./-]{6,20}|\(\d{3}\) ?\d{3}-\d{4}|(1[-. ])?\d{3}[-.]\d{3}[-.]\d{4}"
    r"|0\d{1,4}[ /-]\d{2,4}[ -]?\d{2,4}([ -]?\d{2,4})?)( ?(x|ext\.?) ?\d{1,6})?",
    re.ASCII,
)
_STREET: Final = re.compile(
    r"\d+[a-z]?,? (\S+ ){1,4}(street|st|avenue|ave|road|rd|drive|dr|lane|ln|court|ct|boulevard|blvd|way|place|pl|"
    r"terrace|square|sq)\b\.?.*"
    r"|(\S+ )*\S*(straße|strasse|str\.|weg|platz|allee|gasse|straat|laan|plein|gracht|kade) ?\d+ ?[a-z]?\b.*"
    r"|\d+,? (bis |ter )?(rue|avenue|boulevard|place|chemin|impasse|allée) .+"
    r"|(via|viale|piazza|corso|calle|avenida|plaza|rua) \S.* ?,? ?\d+\b.*",
    re.IGNORECASE,
)
AGE: Final = _named(r"(\w+ )*age( (years|yrs|at \w+))?", "alter|edad|leeftijd")
_LETTERED: Final = frozenset({"Finland", "France", "Italy", "Spain"})
"""Countries whose numbers hold letters or two check digits, so that few values tell."""

DETECTORS: Final[tuple[Detector, ...]] = (
    Detector(
        kind="email",
        words="e-mail addresses",
        hipaa=6,
        named=_named(r"e ?mails?( addr(ess)?)?", r"mail addr(ess)?", "correo"),
        shaped=_full(r"[^@\s,;]+@[^@\s,;]+\.[A-Za-z]{2,}"),
    ),
    Detector(
        kind="ssn",
        words="social security numbers",
        hipaa=7,
        named=_named("ssn", f"social security( {_NUMBER})?"),
        shaped=_full(r"(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}"),
    ),
    Detector(kind="iban", words="bank accounts (IBAN)", hipaa=10, named=_named("iban"), shaped=checksums.is_iban),
    Detector(
        kind="card",
        words="card numbers",
        hipaa=10,
        named=_named(f"(credit |debit |payment )?card {_NUMBER}", "(credit|debit) card", f"cc {_NUMBER}", "pan"),
        shaped=checksums.is_card,
        digits=True,
    ),
    Detector(
        kind="vehicle",
        words="vehicle numbers",
        hipaa=12,
        named=_named(
            "vin",
            "(licen[cs]e|number) plates?",
            f"plate {_NUMBER}",
            f"vehicle (id|{_NUMBER})",
            "kenteken",
            "kennzeichen",
        ),
        shaped=checksums.is_vin,
    ),
    Detector(
        kind="device",
        words="device identifiers",
        hipaa=13,
        named=_named(
            "imei",
            "imsi",
            "udid",
            "idfa",
            "mac( addr(ess)?)?",
            f"(device|serial|sim) (id|uuid|{_NUMBER})",
            "advertising id",
        ),
        shaped=_full("([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}", r"([0-9a-fA-F]{4}\.){2}[0-9a-fA-F]{4}"),
    ),
    Detector(kind="device", words="device identifiers", hipaa=13, shaped=checksums.is_imei, digits=True),
    Detector(
        kind="ip",
        words="IP addresses",
        hipaa=15,
        named=_named("ip( (v4|v6|addr(ess)?))?", "ipaddr(ess)?", "ipv[46]"),
        shaped=_is_ip,
    ),
    Detector(
        kind="phone",
        words="telephone numbers",
        hipaa=4,
        named=_named(
            f"((tele|cell|mobile) ?)?(phone|fax)( {_NUMBER})?", f"(tel|mobile)( {_NUMBER})?", "msisdn", "telefon[o]?"
        ),
        shaped=_is_phone,
    ),
    Detector(
        kind="address",
        words="addresses",
        hipaa=2,
        named=_named(
            "(street |home |postal |mailing |billing |shipping |residence )?addr(ess)?( ?(line)? ?[12])?",
            "street( name)?",
            "adresse",
            "strasse|straße|straat",
            "indirizzo",
            "direccion",
        ),
        shaped=_street,
    ),
    *(
        Detector(
            kind="national_id",
            words=f"national numbers of {country}",
            hipaa=18,
            shaped=fits,
            digits=country not in _LETTERED,
        )
        for country, fits in checksums.NATIONAL.items()
    ),
    Detector(
        kind="national_id",
        words="national numbers",
        hipaa=18,
        named=_named(
            f"(national|citizen|identity) (id|card|{_NUMBER})",
            "bsn|pesel|dni|nie|nir|nino|tin|cpf|aadhaar|personnummer",
            "codice fiscale",
            "steuer ?id",
            f"nhs {_NUMBER}",
            "tax ?(payer )?id",
        ),
    ),
    Detector(kind="passport", words="passport numbers", hipaa=18, named=_named(f"passport( (id|{_NUMBER}))?")),
    Detector(
        kind="medical_record",
        words="medical record numbers",
        hipaa=8,
        named=_named("mrn", f"(medical record|patient|chart|encounter) (id|key|{_NUMBER})", "medical record"),
    ),
    Detector(
        kind="health_plan",
        words="health plan numbers",
        hipaa=9,
        named=_named(
            f"(health plan|insurance|policy|beneficiary|medicare|medicaid|subscriber|member) (id|{_NUMBER})",
            "mbi",
            "hicn",
        ),
    ),
    Detector(
        kind="account",
        words="account numbers",
        hipaa=10,
        named=_named(f"(account|acct|routing) (id|{_NUMBER})", "sort code", "swift", "bic"),
    ),
    Detector(
        kind="licence",
        words="licence and certificate numbers",
        hipaa=11,
        named=_named(
            f"(licen[cs]e|certificate) (id|{_NUMBER})",
            "(driver s|drivers|driver|driving) licen[cs]e",
            "npi",
            "dea number",
        ),
    ),
    Detector(
        kind="biometric",
        words="biometric identifiers",
        hipaa=16,
        named=_named(
            "finger ?prints?",
            "retina( scan)?",
            "iris (scan|code)",
            "(voice|palm) ?print",
            "face (embedding|id|print|template)",
            "biometric( (id|hash|template))?",
        ),
    ),
    Detector(
        kind="photo",
        words="photographs",
        hipaa=17,
        named=_named(
            "(face|profile|patient|portrait|passport) (photo|image|picture|pic)( (url|path|file))?",
            "photo( (url|path|file))?",
            "avatar",
            "selfie",
        ),
    ),
    Detector(
        kind="name",
        words="names of people",
        hipaa=1,
        named=_named(
            r"(\w+ )*(sur|user|fore)?names?",
            "vorname|nachname|apellidos?|prenom|prénom|cognome|achternaam|voornaam",
            "patient|customer|client|employee|contact|passenger|physician|doctor|cardholder",
        ),
    ),
    Detector(
        kind="url",
        words="web addresses",
        hipaa=14,
        direct=False,
        named=_named(r"(\w+ )?ur[li]", "web ?site", "home ?page"),
        shaped=_full(r"([hH][tT]{2}[pP][sS]?://|www\.)\S+"),
    ),
    Detector(
        kind="postcode",
        words="postal codes",
        hipaa=2,
        direct=False,
        named=_named(r"(zip|post|postal) ?code( ?\d)?", r"zip ?\d?", "plz", "cap", "codigo postal"),
        shaped=_full(r"[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}", r"[1-9]\d{3} ?[A-Z]{2}", r"\d{5}-\d{4}"),
    ),
    Detector(
        kind="place",
        words="places smaller than a state",
        hipaa=2,
        direct=False,
        named=_named(
            "city|town|village|municipality|county|district|borough|precinct|parish|suburb|neighbou?rhood|locality",
            "census (tract|block)",
            "commune|gemeente|stadt|ort|ciudad",
        ),
    ),
    Detector(
        kind="coordinates",
        words="coordinates",
        hipaa=2,
        direct=False,
        named=_named(
            "lat(itude)?( lon(g|gitude)?)?", "lon(g|gitude)?", "lng", "coord(s|inates?)?", "geo ?(hash|location)", "gps"
        ),
        shaped=_full(r"-?\d{1,2}\.\d{3,},\s*-?\d{1,3}\.\d{3,}"),
    ),
    Detector(
        kind="birth",
        words="dates of birth",
        hipaa=3,
        direct=False,
        named=_named(
            "dob",
            "birth ?(date|day|year|month|dt)?",
            "born( on)?",
            "date of (birth|death)",
            "death date",
            "geburtsdatum",
        ),
    ),
    Detector(
        kind="age",
        words=f"ages over {OLDEST}",
        hipaa=3,
        direct=False,
        named=AGE,
    ),
    Detector(kind="date", words="dates", hipaa=3, direct=False),
)
"""Every kind, in the order of belief: patterns that say more come first."""

ABOUT: Final = _named(
    "has|is|had|count|valid|verified|type|domain|provider|opt in|flag|sent|opened|clicked|owned",
    "(no|n|num|number) of|n",
)
"""Words by which a column is about the thing and not the thing: `has_email`, `phone_type`, `email_domain`."""

PEOPLE: Final = _named(
    "(first|last|full|given|family|middle|maiden|patient|customer|client|employee|contact|holder|sur|user|member|"
    "applicant|beneficiary|guardian|doctor|physician|passenger) ?names?",
    "forename|vorname|nachname|apellidos?|prenom|prénom|cognome|achternaam|voornaam",
)
"""Columns that hold names of people whatever their values look like; a plain `name` may be a product's."""
