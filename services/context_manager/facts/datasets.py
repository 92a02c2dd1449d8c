"""Datasets from the heads of CSV and Parquet files, and columns whose names speak of persons."""

import re
from collections.abc import Iterator
from typing import Final

from services.context_manager.facts.finding import DECLARED, DESCRIBED, MENTIONED, Finding, Source
from services.context_manager.tables import table_shape

_COLUMNS: Final = 60
_NAME: Final = 120
"""Characters of a column's name: what is longer is a text that somebody took for a header."""
_IDENTIFYING: Final = re.compile(
    r"\b(?:e ?mail|(?:tele)?phone|mobile|fax|ssn|social security|passport|iban|bic|credit card|card|cvv"
    r"|(?:first|last|full|sur|family|given|maiden|user|customer|patient|employee) ?name|surname|street|(?:home"
    r"|postal|mailing|ip)? ?address"
    r"|ip|ip addr|tax id|national id|licen[cs]e plate|medical record|mrn|biometric)"
    r"(?: (?:address|number|no|nr|name|line))*$"
)
"""Names of columns that point at one person. The name ends so: a phone service is no phone."""
_REVEALING: Final = re.compile(
    r"\b(?:dob|birth ?(?:day|date)?|date of birth|zip ?(?:code)?|post(?:al)? ?code|latitude|longitude|lat|lon|lng"
    r"|diagnos[ie]s|gender|sex"
    r"|ethnicity|race|religion|nationality|disability|age)\b"
)
"""Names of columns that say something protected, or point at a person together with others."""
_IMPERSONAL: Final = re.compile(
    r"\b(?:count|flag|is|has|num|number of|sent|opened|clicks?|rate|score|length|verified|valid|type)\b"
)
_PART: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")


def extract(source: Source) -> Iterator[Finding]:
    """`data.dataset`: `/data/telco.csv: 26 columns: a, b; about 7043 rows; delimiter ","`, and `security.pii`."""
    table = source.table
    if table is None or not table.width:
        return
    rows = f"{table.rows} rows" if table.exact else f"about {table.rows} rows"
    delimiter = f"; delimiter {_named(table.delimiter)}" if table.delimiter else ""
    value = f"{source.path}: {table_shape(table, _COLUMNS)}; {rows}{delimiter}"
    yield Finding("data", "dataset", value, 1, DECLARED)
    for column in table.columns:
        if sure := personal(column):
            yield Finding("security", "pii", f"column {column[:_NAME]} in {source.path}", 1, sure)


def personal(column: str) -> float:
    """How sure the name of a column makes that it identifies a person: only likely to help to is a mention."""
    spoken = " ".join(part.lower() for word in re.split(r"[^A-Za-z]+", column) for part in _PART.findall(word))
    if _IMPERSONAL.search(spoken):
        return 0.0
    if _IDENTIFYING.search(spoken):
        return DESCRIBED
    return MENTIONED if _REVEALING.search(spoken) else 0.0


def _named(delimiter: str) -> str:
    return "tab" if delimiter == "\t" else f'"{delimiter}"'
