"""Personal data is recognised by its name, its pattern and its check digits, and little else is taken for it."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlsystem.governance.checksums import NATIONAL, is_card, is_iban
from mlsystem.governance.kinds import DETECTORS
from mlsystem.governance.pii import Values, in_value, recognised, words_of
from mlsystem.governance.regimes import looked_for
from tests.blueprint import identifiers as made

MAKERS: Final[dict[str, made.Maker]] = {
    "email": made.email,
    "phone": made.phone,
    "ssn": made.ssn,
    "card": made.card,
    "iban": made.iban,
    "ip": made.ip,
    "vehicle": made.vin,
    "device": made.mac,
    "address": made.address,
}


def column(
    name: str, texts: Sequence[str], type_: Literal["category", "integer", "date", "number"] = "category"
) -> Values:
    """A column of these values."""
    longest = max(map(len, texts))
    high = max(map(float, texts)) if type_ in {"integer", "number"} else None
    return Values(name, type_, list(dict.fromkeys(texts)), len(set(texts)), len(texts), longest, high)


def kind(values: Values, *regimes: str) -> str:
    """What a column is taken for under these regimes."""
    found = recognised(values, looked_for(regimes))
    return found.kind if found else ""


@pytest.mark.parametrize(("expected", "make"), MAKERS.items())
def test_a_column_is_known_by_its_values_whatever_it_is_called(expected: str, make: made.Maker) -> None:
    """Also with one value in eight that is none."""
    draw = Random(3)
    texts = [make(draw) if i % 8 else "unknown" for i in range(60)]
    assert kind(column("x7", texts)) == expected


@pytest.mark.parametrize(("country", "make"), made.NATIONAL.items())
def test_national_numbers_are_known_by_their_check_digits(country: str, make: made.Maker) -> None:
    """Of ten countries; the same numbers with another last digit are not."""
    draw = Random(5)
    texts = [make(draw) for _ in range(60)]
    wrong = [f"{text[:-1]}{'0123456789A'[('0123456789'.find(text[-1]) + 1) % 10]}" for text in texts]
    found = recognised(column("x7", texts))
    assert (found.words if found else "", sum(map(NATIONAL[country], wrong)) < 6) == (
        f"national numbers of {country}",
        True,
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("customerEmail", "email"),
        ("Phone No.", "phone"),
        ("last_name", "name"),
        ("IPAddress", "ip"),
        ("patient_id", "medical_record"),
        ("MRN", "medical_record"),
        ("insurance_number", "health_plan"),
        ("drivers_license", "licence"),
        ("passportNumber", "passport"),
        ("deviceSerialNumber", "device"),
        ("serial_number", "device"),
        ("fingerprint", "biometric"),
        ("profile_photo_url", "photo"),
        ("account_number", "account"),
        ("has_email", ""),
        ("phone_type", ""),
        ("number_of_names", ""),
        ("product_name", ""),
        ("city", ""),
        ("tenure", ""),
    ],
)
def test_a_column_is_known_by_its_name_where_the_values_could_be_it(name: str, expected: str) -> None:
    """And a flag about the thing, or a product's name, is not."""
    texts = [f"v{i}-{i * 7 % 50}" for i in range(50)]
    assert kind(column(name, texts)) == expected


def test_a_plain_name_is_a_persons_only_if_it_looks_like_one() -> None:
    """`name` may be anybody's or anything's."""
    draw = Random(1)
    people = [f"{made.name(draw)} {i}"[: -len(str(i)) - 1] for i in range(120)]
    things = [f"router {i} x" for i in range(60)]
    assert (kind(column("Name", people + ["Al Bo" + "o" * i for i in range(60)])), kind(column("Name", things))) == (
        "name",
        "",
    )


@pytest.mark.parametrize(
    ("name", "texts", "type_", "expected"),
    [
        ("zip_code", [f"{10_000 + i}" for i in range(50)], "integer", "postcode"),
        ("City", ["Leeds", "Graz", "Lyon"] * 20, "category", "place"),
        ("latitude", [f"{40 + i / 7:.4f}" for i in range(50)], "number", "coordinates"),
        ("admitted", [f"2024-01-{i:02d}" for i in range(1, 29)], "date", "date"),
        ("dob", [f"19{i:02d}-01-01" for i in range(50)], "date", "birth"),
        ("homepage", [f"https://x.example/{i}" for i in range(50)], "category", "url"),
        ("age", [str(i) for i in range(20, 97)], "integer", "age"),
        ("age", [str(i) for i in range(20, 89)], "integer", ""),
        ("dosage", [str(i) for i in range(20, 97)], "integer", ""),
    ],
)
def test_hipaa_looks_for_more_than_what_names_a_person(
    name: str, texts: list[str], type_: Literal["category", "integer", "date", "number"], expected: str
) -> None:
    """Places, dates and old ages identify together; without the regime they are features like others."""
    values = column(name, texts, type_)
    assert (kind(values, "hipaa"), kind(values), kind(values, "gdpr")) == (expected, "", "")


def test_every_one_of_the_eighteen_identifiers_has_a_detector() -> None:
    """45 CFR 164.514(b)(2)(i); fax numbers are telephone numbers by their look, so 5 goes with 4."""
    assert {found.hipaa for found in DETECTORS} | {5} == set(range(1, 19))


@pytest.mark.parametrize(
    "texts",
    [
        [str(1000 + i) for i in range(200)],
        [f"{i:05d}" for i in range(200)],
        [f"SKU-{i:04d}-{i % 7}" for i in range(200)],
        [f"{2 + i % 3}.{i % 10}.{i % 7}" for i in range(200)],
        [str(Random(9).randrange(10**8, 10**9) + i * 104_729) for i in range(200)],
        [str(Random(9).randrange(10**15, 10**16) + i * 1_000_003) for i in range(200)],
        [f"2024-0{i % 9 + 1}-{i % 28 + 1:02d}" for i in range(200)],
        [f"{i / 7:.5f}" for i in range(200)],
        ["Fiber optic", "DSL", "No", "No internet service"] * 50,
    ],
    ids=["counts", "padded", "sku", "versions", "nine digits", "sixteen digits", "days", "fractions", "words"],
)
def test_ordinary_values_are_taken_for_nothing(texts: list[str]) -> None:
    """Codes and numbers of every length, as they come in tables."""
    assert kind(column("x7", texts)) == ""


@given(st.text(max_size=40))
def test_any_text_can_be_looked_at(text: str) -> None:
    """No pattern runs away or fails, whatever stands in a file."""
    assert in_value(text) is None or "@" in text or any(sign.isdigit() for sign in text)
    assert words_of(text) == words_of(words_of(text))


@given(st.integers(0, 10**15 - 1), st.integers(1, 9))
def test_a_card_with_one_wrong_digit_is_none(number: int, step: int) -> None:
    """Luhn finds every single error."""
    good = made.until(is_card, lambda draw: f"4{number % 10**14:014d}{draw.randrange(10)}", Random(number))
    assert not is_card(f"{good[:-1]}{(int(good[-1]) + step) % 10}")


@given(st.integers(0, 2**31))
def test_an_account_with_two_signs_swapped_is_none(seed: int) -> None:
    """The remainder by 97 finds neighbours that changed places."""
    account = made.iban(Random(seed))
    i = next((i for i in range(8, len(account) - 1) if account[i] != account[i + 1]), None)
    assert i is None or not is_iban(account[:i] + account[i + 1] + account[i] + account[i + 2 :])
