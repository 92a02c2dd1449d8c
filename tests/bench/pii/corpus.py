"""Columns as tables have them: of personal data, and of what only looks like it. Each says what it is.

Owns how the corpus is drawn: every kind many times over, with names as people give them or none that say anything,
with dirty values among them, and the same number of ordinary columns of hard kinds. Leaves people to `identifiers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from random import Random
from typing import Final

from mlsystem.governance.pii import Values
from tests.blueprint import identifiers as made

ROWS: Final = 400
_DIRT: Final = ("unknown", "n/a", "-", "see note", "x", "TBD", "none given")
_MOST_DIRT: Final = 0.15
"""Share of a column's values that are something else, at most."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How columns of one kind come: what they hold, and what they are called."""

    name: str
    """As the detectors call it; empty for ordinary columns."""
    make: made.Maker
    called: Sequence[str]
    shaped: bool = True
    """Whether values alone can tell: such columns also come under names that say nothing."""


@dataclass(frozen=True, slots=True)
class Case:
    """One column, and what it is."""

    values: Values
    truth: str
    family: str


def _number(form: str, low: int, high: int) -> made.Maker:
    return lambda draw: form.format(draw.randrange(low, high))


DIRECT: Final = (
    Kind("email", made.email, ("email", "e-mail", "customerEmail", "contact_email", "EMAIL_ADDRESS")),
    Kind("phone", made.phone, ("phone", "Phone Number", "tel", "mobile_no", "faxNumber", "telephone")),
    Kind("ssn", made.ssn, ("ssn", "SSN", "social_security_number")),
    Kind("card", made.card, ("card_number", "credit_card", "ccNumber", "PAN")),
    Kind("iban", made.iban, ("iban", "IBAN", "bank_iban")),
    Kind("ip", made.ip, ("ip", "ip_address", "clientIP", "source_ip")),
    Kind("device", made.mac, ("mac", "mac_address", "device_id")),
    Kind("device", made.imei, ("imei", "IMEI")),
    Kind("vehicle", made.vin, ("vin", "VIN", "license_plate", "vehicle_id")),
    Kind("address", made.address, ("address", "street_address", "homeAddress", "addr1", "street")),
    *(Kind("national_id", make, ("national_id", "citizen_number", "tax_id")) for make in made.NATIONAL.values()),
    Kind("name", made.name, ("name", "full_name", "CustomerName", "patient", "contact_name"), shaped=False),
    Kind("name", lambda d: d.choice(made.LAST) + d.choice("abcdefgh"), ("last_name", "surname"), shaped=False),
    Kind("passport", _number("P{:08d}", 0, 10**8), ("passport", "passport_no"), shaped=False),
    Kind("medical_record", _number("M{:08d}", 0, 10**8), ("mrn", "patient_id", "medical_record_number"), shaped=False),
    Kind("health_plan", _number("H{:09d}", 0, 10**9), ("policy_number", "insurance_no", "member_id"), shaped=False),
    Kind("account", _number("{:010d}", 10**9, 10**10), ("account_number", "acct_no"), shaped=False),
    Kind(
        "licence", _number("D{:08d}", 0, 10**8), ("license_number", "drivers_license", "certificate_no"), shaped=False
    ),
    Kind("biometric", lambda d: f"{d.getrandbits(64):016x}", ("fingerprint", "face_embedding"), shaped=False),
    Kind("photo", lambda d: f"/i/{d.getrandbits(40):x}.jpg", ("profile_photo", "photo_url", "avatar"), shaped=False),
)
"""What is looked for in all data."""

QUASI: Final = (
    Kind("postcode", made.postcode, ("zip", "postcode", "ZipCode", "postal_code")),
    Kind("place", made.place, ("city", "town", "county", "City"), shaped=False),
    Kind("coordinates", made.coordinates, ("coordinates", "lat_long", "gps")),
    Kind("url", made.url, ("url", "homepage", "profile_url")),
)
"""What identifies together with other things: looked for under HIPAA."""

ORDINARY: Final = (
    Kind("", _number("{}", 0, 73), ("tenure", "age_of_account_months", "visits", "phones_owned", "emails_sent")),
    Kind("", _number("{}", 1_000, 9_999), ("store", "batch", "year_model", "pin_count")),
    Kind("", _number("{:09d}", 10**8, 10**9), ("order", "sku", "reading", "ticket")),
    Kind("", _number("{:010d}", 10**9, 10**10), ("epoch", "sequence", "counter")),
    Kind("", _number("{:011d}", 10**10, 10**11), ("meter", "units", "barcode")),
    Kind("", _number("{:013d}", 10**12, 10**13), ("ean", "timestamp_ms", "gtin")),
    Kind("", _number("{:015d}", 10**14, 10**15), ("trace", "hash", "nonce")),
    Kind("", _number("{:016d}", 10**15, 10**16), ("transaction", "voucher", "span")),
    Kind("", lambda d: f"SKU-{d.randrange(1000):04d}-{d.choice('ABC')}", ("product", "item", "part_no")),
    Kind("", lambda d: f"{d.randrange(1, 9)}.{d.randrange(20)}.{d.randrange(20)}", ("version", "firmware", "release")),
    Kind("", lambda d: f"{d.randrange(1, 99)}-{d.randrange(1, 99)}", ("score", "range", "ratio")),
    Kind("", lambda d: d.choice(("Yes", "No")), ("has_email", "phone_verified", "is_name_set", "card_on_file")),
    Kind("", lambda d: d.choice(("gmail", "work", "none")), ("email_type", "phone_type", "email_domain")),
    Kind("", lambda d: d.choice(("DSL", "Fiber optic", "No")), ("InternetService", "plan", "segment", "channel")),
    Kind("", lambda d: f"router {d.randrange(200)} pro", ("product_name", "model_name", "device_name", "file_name")),
    Kind("", lambda d: f"{d.gauss(70, 20):.2f}", ("MonthlyCharges", "amount", "balance", "longevity")),
    Kind("", lambda d: made.day(d, date(2023, 1, 1), 700).isoformat(), ("signed", "week_of", "period")),
    Kind("", lambda d: f"{d.getrandbits(32):08x}", ("commit", "etag", "token")),
    Kind("", lambda d: f"{d.randrange(24):02d}:{d.randrange(60):02d}", ("slot", "departure", "at")),
    Kind("", lambda d: f"#{d.randrange(16**6):06x}", ("colour", "theme", "shade")),
)
"""What is no personal data, and hard: codes of the lengths that have check digits, and names that speak of it."""


def corpus(kinds: Sequence[Kind], draws: int, seed: int) -> Iterator[Case]:
    """Yield so many columns of each kind; those that values alone can tell come unnamed every other time."""
    draw = Random(seed)
    for kind in (*kinds, *ORDINARY):
        for turn in range(draws):
            named = not kind.shaped or not kind.name or turn % 2 == 0
            called = draw.choice(list(kind.called)) if named else draw.choice(("x1", "field_7", "value", "col_b"))
            yield Case(_column(called, kind.make, draw), kind.name, kind.called[0])


def _column(called: str, make: Callable[[Random], str], draw: Random) -> Values:
    dirt = draw.uniform(0, _MOST_DIRT)
    texts = [draw.choice(_DIRT) if draw.random() < dirt else make(draw) for _ in range(ROWS)]
    counted = {text: texts.count(text) for text in dict.fromkeys(texts)}
    common = sorted(counted, key=lambda text: (-counted[text], text))[:200]
    whole = all(text.isdigit() for text in common if text not in _DIRT)
    kind = "integer" if whole and not dirt else "category"
    high = max((float(text) for text in common), default=0.0) if kind == "integer" else None
    return Values(called, kind, common, len(counted), len(texts), round(sum(map(len, texts)) / len(texts)), high)
