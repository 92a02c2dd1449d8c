"""Personal data in a source: which columns hold it, what becomes of them, and which single values are stray.

Owns the judgement over whole columns with what the spec says about them, and that such a column is masked: no feature,
and none of its values in a contract, a profile or a stored row. Leaves recognising to `governance`, and gates to the
evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from mlsystem.boundary import Strings, moment_column
from mlsystem.data.audit import Audit, Personal
from mlsystem.data.findings import Finding
from mlsystem.data.reader import TABLE, Rows
from mlsystem.data.scan import Scan, counts, distinct, null_list
from mlsystem.governance.kinds import OLDEST
from mlsystem.governance.mask import reduction
from mlsystem.governance.pii import Values, in_value, recognised
from mlsystem.governance.regimes import NO_PII, looked_for, masks, reduced_to, strays
from mlsystem.schema import Column
from mlsystem.spec import ReaderOptions, Spec

_SAMPLE: Final = 200  # most frequent values that are looked at
_REDUCED: Final = {
    "year": "the model is given the year alone",
    "capped": f"all over {OLDEST} are one value for the model",
}
_SUSPECT: Final = "@|([0-9].*){6}|[A-Z]{2}[0-9]{2}"
"""RE2: what every stray pattern has in it, so that few of many texts are looked at closely."""


def personal_data(audited: Audit) -> Iterator[Finding]:
    """Yield a finding for each column that holds personal data, and for each that holds some among other values."""
    action = "masked" if masks(audited.spec) else "dropped"
    end = "it is no feature, and its values are kept out of contract and reports."
    for name, personal in audited.personal.items():
        if audited.roles[name].role in {"time", "label_time", "entity"}:
            continue
        reduced = reduced_to(personal.kind, audited.scans[name].type, audited.spec)
        if reduced == "capped" or (reduced == "year" and _several_years(audited, audited.scans[name])):
            text = f"{name!r} looks like {personal.words}: {_REDUCED[reduced]}, and no more is kept."
            yield Finding("pii", (name,), "converted", text)
        else:
            yield Finding("pii", (name,), action, f"{name!r} looks like {personal.words}: {end}", "ignore")
    if masks(audited.spec):
        yield from _stray(audited)


def _several_years(audited: Audit, scan: Scan) -> bool:
    """Whether the year of a date says anything."""
    nulls = null_list(audited.spec.data.reader)
    seconds = moment_column(audited.rows.column(scan.name), scan.format or "iso", nulls)[0]
    years = seconds[~np.isnan(seconds)].astype("datetime64[s]").astype("datetime64[Y]")
    return len(np.unique(years)) > 1


def personal_columns(audited: Audit) -> dict[str, Personal]:
    """Return the columns of personal data, in the order of the source."""
    found = {name: _personal(audited, name) for name in audited.rows.names}
    return {name: personal for name, personal in found.items() if personal}


def _personal(audited: Audit, name: str) -> Personal | None:
    """Return what personal data a column holds: what the spec says, else what its name and values show."""
    said = audited.spec.columns[name].pii if name in audited.spec.columns else ""
    if audited.roles[name].role in {"target", "weight"} or said == NO_PII:
        return None
    if said:
        return Personal(said, f"personal data ({said}, says system.toml)")
    values = values_of(audited.rows, audited.scans[name], audited.spec.data.reader)
    seen = recognised(values, looked_for(audited.spec.governance.regime))
    return Personal(seen.kind, seen.words) if seen else None


class Masked(Mapping[str, Strings]):
    """The columns of a source, read when they are asked for; personal data is blank."""

    def __init__(self, columns: Mapping[str, Strings], contract: Mapping[str, Column], spec: Spec) -> None:
        self._columns, self._contract, self._spec = columns, contract, spec

    def __getitem__(self, name: str) -> Strings:
        values, column = self._columns[name], self._contract[name]
        if not masks(self._spec) or column.role == "target":
            return values
        if column.pii and column.role != "feature":
            return np.full(len(values), "", dtype=object)
        if reduced := reduction(column):
            kept = {text: reduced(text) for text in dict.fromkeys(values.tolist())}
            return np.array([kept[text] for text in values.tolist()], dtype=object)
        return _without_strays(values, self._spec) if column.type in {"category", "text"} else values

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def _without_strays(values: Strings, spec: Spec) -> Strings:
    """Return texts with those blank that are personal data by themselves."""
    kinds = strays(spec)
    kept = {text: "" if in_value(text.strip(), kinds) else text for text in dict.fromkeys(values.tolist())}
    return values if all(kept.values()) else np.array([kept[text] for text in values.tolist()], dtype=object)


def _stray(audited: Audit) -> Iterator[Finding]:
    """Yield a finding for each column of ordinary values that has some personal data among them."""
    kinds = strays(audited.spec)
    for scan in audited.features:
        if scan.type not in {"category", "text"} or scan.name in audited.personal:
            continue
        sql = f"""SELECT v, n FROM ({distinct(audited.rows, scan.name)}) WHERE regexp_matches(v, '{_SUSPECT}')"""  # noqa: S608
        found = [(in_value(str(text).strip(), kinds), int(count)) for text, count in audited.rows.query(sql)]
        rows = sum(count for kind, count in found if kind)
        if rows:
            what = ", ".join(sorted({kind.words for kind, _ in found if kind}))
            text = f"{rows:,} values of {scan.name!r} look like {what}: they are blank for the model and in reports."
            yield Finding("pii", (scan.name,), "converted", text)


def values_of(rows: Rows, scan: Scan, options: ReaderOptions) -> Values:
    """Return what a column is judged by."""
    nulls = null_list(options)
    texts = [text for text, _ in counts(rows, scan.name, nulls, _SAMPLE)]
    return Values(
        name=scan.name,
        type=scan.type,
        texts=texts,
        distinct=scan.texts.distinct,
        present=scan.texts.present,
        characters=round(scan.texts.characters),
        high=_highest(rows, scan),
    )


def _highest(rows: Rows, scan: Scan) -> float | None:
    """Return the largest number of a column, None where it has none."""
    if not scan.numeric:
        return None
    ((high,),) = rows.query(f"SELECT max(TRY_CAST({rows.sql_name(scan.name)} AS DOUBLE)) FROM {TABLE}")  # noqa: S608
    return None if high is None else float(high)
