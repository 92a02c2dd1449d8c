"""`export feast`: a version's features as a Feast repository, written without Feast.

Owns the directory: feature_store.yaml (local provider, SQLite online), definitions.py (entity, feature view, feature
service) and the rows that the version was made from as Parquet, typed, one event a row. `feast apply` in it takes it
as it is. What is derived inside the model is no column here: callers send what Feast gives, and the graph does the
rest. Leaves the system's own online rows to `materialize`.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np

from mlsystem.boundary import category_column, number_column
from mlsystem.data.dataset import Dataset
from mlsystem.data.quoting import identifier
from mlsystem.errors import DataError
from mlsystem.hooked import boundary_of
from mlsystem.online.fill import Needs
from mlsystem.registry import registry_of
from mlsystem.schema import Column, Schema
from mlsystem.spec import Spec, seconds
from mlsystem.stages import Workspace
from mlsystem.versions import Version, laid_out, read_version

PLACE: Final = Path("work") / "export" / "feast"
ROWS: Final = "data/features.parquet"
EVENT: Final = "event_timestamp"
TRIED: Final = "0.67"
"""Version of Feast that the repository was tried with."""

_TYPES: Final = {"number": ("Float64", "DOUBLE"), "integer": ("Int64", "BIGINT")}
_TEXT: Final = ("String", "VARCHAR")


@dataclass(frozen=True, slots=True)
class Repository:
    """What the definitions say."""

    name: str
    """Project, feature view and feature service; a Python identifier."""
    about: str
    entity: str
    features: tuple[Column, ...]
    ttl_s: float


def export_feast(workspace: Workspace, options: Namespace) -> dict[str, object]:
    """Write a version's feature repository; a directory that is there is replaced file by file.

    Raises: DataError `no_entity` if the rows are about nobody: a feature store looks up by entity.
    """
    registry = registry_of(workspace)
    version = read_version(registry, options.version)
    place = workspace.root / (options.to or PLACE / str(version.number))
    with laid_out(version, registry, workspace) as laid:
        dataset = laid.load()
        repository = repository_of(version.spec, version.number, dataset.schema)
        write_repository(place, repository, dataset, made_at=_made_at(version))
    return {
        "version": version.number,
        "path": str(place),
        "project": repository.name,
        "entity": repository.entity,
        "features": [column.name for column in repository.features],
        "rows": len(dataset.target),
    }


def write_repository(place: Path, repository: Repository, dataset: Dataset, *, made_at: float) -> None:
    """Write definitions and rows; rows without a time of their own are dated `made_at`, seconds since 1970."""
    (place / ROWS).parent.mkdir(parents=True, exist_ok=True)
    _write_rows(place / ROWS, _columns(repository, dataset, made_at), repository)
    for name, text in _files(repository).items():
        (place / name).write_text(text, encoding="utf-8")


def repository_of(spec: Spec, version: int, schema: Schema) -> Repository:
    """Return what the definitions say of a version; DataError `no_entity` if its rows are about nobody."""
    needs = Needs.of(schema, boundary_of(schema, None))
    if not needs.entity:
        text = "rows of this version are about no entity, by which a feature store looks up; name it in data.entity"
        raise DataError("no_entity", text)
    return Repository(
        name=spec.name.replace("-", "_"),
        about=f"Features of {spec.name}, version {version}, which predicts {schema.task.target}",
        entity=needs.entity,
        features=tuple(column for column in schema.columns if column.name in needs.required),
        ttl_s=seconds(spec.monitoring.freshness),
    )


def _made_at(version: Version) -> float:
    """Return when the version was packaged: when rows without a time of their own were known at the latest."""
    return datetime.fromisoformat(version.entry.at).astimezone(UTC).timestamp()


def _columns(repository: Repository, dataset: Dataset, made_at: float) -> dict[str, np.ndarray[Any, Any]]:
    """Return entity, event time and features as arrays; texts that are missing are None, numbers NaN."""
    nulls = dataset.schema.reader.null
    rows = len(dataset.target)
    moments = np.full(rows, made_at) if dataset.dates is None else np.nan_to_num(dataset.dates, nan=0.0)
    columns: dict[str, np.ndarray[Any, Any]] = {
        repository.entity: category_column(dataset.table.columns[repository.entity], nulls),
        EVENT: (moments * 1e6).astype("datetime64[us]"),
    }
    for column in repository.features:
        texts = dataset.table.columns[column.name]
        if column.type in _TYPES:
            columns[column.name] = number_column(texts, column.decimal, nulls)[0]
        else:
            known = category_column(texts, nulls) if column.type == "category" else texts
            columns[column.name] = np.array([text or None for text in known.tolist()], object)
    return columns


def _write_rows(path: Path, columns: Mapping[str, np.ndarray[Any, Any]], repository: Repository) -> None:
    kinds = {column.name: _TYPES.get(column.type, _TEXT)[1] for column in repository.features}
    picked = [_picked(name, kinds.get(name, "")) for name in columns]
    named = {f"c{place}": values for place, values in enumerate(columns.values())}
    with duckdb.connect() as connection:
        connection.register("given", named)
        renamed = ", ".join(f"c{place} AS {identifier(name)}" for place, name in enumerate(columns))
        select = f"SELECT {', '.join(picked)} FROM (SELECT {renamed} FROM given)"  # noqa: S608 - quoted names
        connection.execute(f"COPY ({select}) TO '{str(path).replace(chr(39), chr(39) * 2)}' (FORMAT parquet)")


def _picked(name: str, kind: str) -> str:
    quoted = identifier(name)
    if kind in {"DOUBLE", "BIGINT"}:
        return f"CAST(CASE WHEN NOT isnan({quoted}) THEN {quoted} END AS {kind}) AS {quoted}"
    return f"CAST({quoted} AS VARCHAR) AS {quoted}" if kind else quoted


def _files(repository: Repository) -> dict[str, str]:
    """Return the repository's files by name, the rows aside."""
    return {
        "feature_store.yaml": _STORE.format(project=repository.name),
        "definitions.py": _DEFINITIONS.format(
            about=repository.about,
            name=repository.name,
            entity=repr(repository.entity),
            fields="\n".join(_fields(repository.features)),
            ttl_s=repository.ttl_s,
            rows=ROWS,
            event=EVENT,
        ),
        "README.md": _README.format(about=repository.about, name=repository.name, tried=TRIED),
    }


def _fields(features: Sequence[Column]) -> list[str]:
    return [f"        Field(name={column.name!r}, dtype={_TYPES.get(column.type, _TEXT)[0]})," for column in features]


_STORE: Final = """project: {project}
registry: data/registry.db
provider: local
offline_store:
  type: file
online_store:
  type: sqlite
  path: data/online_store.db
entity_key_serialization_version: 3
"""

_DEFINITIONS: Final = '''"""{about}."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, Int64, String

entity = Entity(name="{name}_entity", join_keys=[{entity}], value_type=ValueType.STRING)

rows = FileSource(name="{name}_rows", path="{rows}", timestamp_field="{event}")

features = FeatureView(
    name="{name}",
    entities=[entity],
    ttl=timedelta(seconds={ttl_s:g}),
    schema=[
{fields}
    ],
    source=rows,
    online=True,
)

service = FeatureService(name="{name}", features=[features])
'''

_README: Final = """# {about}

Written by `python -m mlsystem export feast`, tried with Feast {tried}. In this directory:

```sh
feast apply
feast materialize-incremental "$(date -u +%Y-%m-%dT%H:%M:%S)"
```

`FeatureStore(".").get_online_features(features=store.get_feature_service("{name}"), entity_rows=[...])` gives what
`POST /predict` takes as a row; features of `[derive]` and of hooks.py are made behind it. Point the offline store at
your warehouse, and the online store at Redis or what you have, in feature_store.yaml: nothing else depends on it.
"""
