"""Where a model comes from, as OpenLineage events: one run a stage, with what it read and what it made.

Owns the events of a package (START and COMPLETE of validate, train, evaluate, package), their datasets with schema,
version and column lineage as far as it is known: columns of files are taken over as they are, a model's answer comes
from its features and was fitted to the target. What a query does to columns is not guessed at. Leaves sending the
events anywhere to `command`. Follows OpenLineage 2.0.2 and its facets.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from mlsystem import __version__
from mlsystem.data.origin import Input
from mlsystem.data.snapshot import Snapshot
from mlsystem.schema import Schema
from mlsystem.stages import Run

LINEAGE: Final = "lineage.json"
"""Name of the file in a package."""

_PRODUCER: Final = f"urn:mlsystem:engine:{__version__}"
_EVENT: Final = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
_FACETS: Final = {
    "schema": "1-2-0/SchemaDatasetFacet.json#/$defs/SchemaDatasetFacet",
    "version": "1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet",
    "columnLineage": "1-2-0/ColumnLineageDatasetFacet.json#/$defs/ColumnLineageDatasetFacet",
    "dataSource": "1-0-1/DatasourceDatasetFacet.json#/$defs/DatasourceDatasetFacet",
    "datasetType": "1-0-1/DatasetTypeDatasetFacet.json#/$defs/DatasetTypeDatasetFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet.json#/$defs/OutputStatisticsOutputDatasetFacet",
    "jobType": "2-0-4/JobTypeJobFacet.json#/$defs/JobTypeJobFacet",
    "sql": "1-1-0/SQLJobFacet.json#/$defs/SQLJobFacet",
    "processing_engine": "1-1-1/ProcessingEngineRunFacet.json#/$defs/ProcessingEngineRunFacet",
}
_USED: Final = frozenset({"feature", "time"})

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StageRun:
    """A stage as it was run."""

    name: str
    digest: str
    run: Run


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the events of one package are made from."""

    system: str
    schema: Schema
    query: str
    sources: Sequence[Input]
    snapshot: Snapshot
    model: str
    """SHA-256 of model.onnx."""
    package: str
    """Digest of the package."""
    runs: Sequence[StageRun]
    """In their order: validate, train, evaluate, package."""


def events(facts: Facts) -> list[Json]:
    """Return the run events of a package in the order of time."""
    return [event for stage in facts.runs for event in _events_of(facts, stage)]


def _events_of(facts: Facts, stage: StageRun) -> Iterator[Json]:
    moments: tuple[tuple[str, datetime], ...] = (("START", stage.run.started), ("COMPLETE", stage.run.ended))
    seed = f"urn:mlsystem:{facts.system}:{stage.name}:{stage.digest}:{stage.run.started.isoformat()}"
    reads, makes = _datasets(facts)[stage.name]
    for kind, at in moments:
        yield {
            "eventType": kind,
            "eventTime": at.isoformat(),
            "producer": _PRODUCER,
            "schemaURL": _EVENT,
            "run": {"runId": str(uuid.uuid5(uuid.NAMESPACE_URL, seed)), "facets": _run_facets()},
            "job": {"namespace": facts.system, "name": stage.name, "facets": _job_facets(facts, stage.name)},
            "inputs": reads,
            "outputs": makes,
        }


def _run_facets() -> Json:
    return {"processing_engine": _facet("processing_engine", version=__version__, name="mlsystem")}


def _job_facets(facts: Facts, stage: str) -> Json:
    facets = {"jobType": _facet("jobType", processingType="BATCH", integration="MLSYSTEM", jobType="COMMAND")}
    if stage == "validate" and facts.query:
        facets["sql"] = _facet("sql", query=facts.query)
    return facets


def _datasets(facts: Facts) -> Mapping[str, tuple[list[Json], list[Json]]]:
    """Return what every stage reads and what it makes."""
    sources = [_source(item, facts.schema, described=not facts.query) for item in facts.sources]
    rows, model = _snapshot(facts), _model(facts)
    seen = [_named(facts.system, "snapshot", version=_facet("version", datasetVersion=facts.snapshot.digest))]
    made = [_named(facts.system, "model", version=_facet("version", datasetVersion=facts.model))]
    evaluated = next(stage.digest for stage in facts.runs if stage.name == "evaluate")
    metrics = [_named(facts.system, "metrics", version=_facet("version", datasetVersion=evaluated))]
    package = [_named(facts.system, "package", version=_facet("version", datasetVersion=facts.package))]
    return {
        "validate": (sources, [rows]),
        "train": (seen, [model]),
        "evaluate": ([*seen, *made], metrics),
        "package": ([*made, *metrics], package),
    }


def _source(item: Input, schema: Schema, *, described: bool) -> Json:
    """Return a file or a database; without a query in between a file has the columns of the contract."""
    facets = {"version": _facet("version", datasetVersion=item.sha256)}
    if described:
        facets["schema"] = _schema_facet(schema)
    if item.database:
        facets["dataSource"] = _facet("dataSource", name=item.name, uri=item.database)
    return _named(*_place(item), **facets)


def _place(item: Input) -> tuple[str, str]:
    """Return namespace and name; where a database is stays a secret, the variable that knows it does not."""
    return (item.name, item.database.rsplit("/", 1)[-1]) if item.database else ("file", item.name)


def _snapshot(facts: Facts) -> Json:
    facets = {
        "version": _facet("version", datasetVersion=facts.snapshot.digest),
        "schema": _schema_facet(facts.schema),
        "datasetType": _facet("datasetType", datasetType="FILE"),
    }
    if not facts.query:
        same = [{"type": "DIRECT", "subtype": "IDENTITY"}]
        places = [_place(item) for item in facts.sources]
        fields = {
            column.name: {"inputFields": [_field(place, column.name, same) for place in places]}
            for column in facts.schema.columns
        }
        facets["columnLineage"] = _facet("columnLineage", fields=fields)
    size = sum(file.bytes for file in facts.snapshot.files)
    told = {"outputStatistics": _facet("outputStatistics", rowCount=facts.snapshot.rows, size=size)}
    return {**_named(facts.system, "snapshot", **facets), "outputFacets": told}


def _model(facts: Facts) -> Json:
    """Return the model as a dataset whose columns are its answers."""
    labels = facts.schema.task.labels
    answers = {"prediction": "string" if labels else "double"}
    answers |= {f"probability of {label}": "double" for label in labels}
    fields = [{"name": name, "type": kind} for name, kind in answers.items()]
    inputs = _answer_inputs(facts)
    facets = {
        "version": _facet("version", datasetVersion=facts.model),
        "schema": _facet("schema", fields=fields),
        "datasetType": _facet("datasetType", datasetType="MODEL"),
        "columnLineage": _facet("columnLineage", fields={name: {"inputFields": inputs} for name in answers}),
    }
    return _named(facts.system, "model", **facets)


def _answer_inputs(facts: Facts) -> list[Json]:
    """Return the columns that an answer is computed from, and those that it was only learnt from."""
    place = (facts.system, "snapshot")
    computed = [{"type": "DIRECT", "subtype": "TRANSFORMATION", "description": "the model computes answers from it"}]
    learnt = [{"type": "INDIRECT", "description": "the model was fitted to it"}]
    named = [(column.name, column.role) for column in facts.schema.columns]
    return [
        *(_field(place, name, computed) for name, role in named if role in _USED),
        *(_field(place, name, learnt) for name, role in named if role in {"target", "weight"}),
    ]


def _field(place: tuple[str, str], name: str, how: list[dict[str, str]]) -> Json:
    return {"namespace": place[0], "name": place[1], "field": name, "transformations": how}


def _schema_facet(schema: Schema) -> Json:
    fields = [
        {"name": column.name, "type": column.type, "description": f"{column.role}: {column.reason}".removesuffix(": ")}
        for column in schema.columns
    ]
    return _facet("schema", fields=fields)


def _named(namespace: str, name: str, **facets: Json) -> Json:
    return {"namespace": namespace, "name": name, "facets": facets}


def _facet(kind: str, **content: object) -> Json:
    return {"_producer": _PRODUCER, "_schemaURL": f"https://openlineage.io/spec/facets/{_FACETS[kind]}", **content}
