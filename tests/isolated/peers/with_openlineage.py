# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
"""Runs inside OpenLineage's environment: build the client's objects from events, and send them to a file.

`with_openlineage.py LINEAGE SENT`. Knows nothing of the project.
"""

import json
import sys
from pathlib import Path
from typing import Any

from openlineage.client import OpenLineageClient
from openlineage.client.generated import (
    base,
    column_lineage_dataset,
    dataset_type_dataset,
    dataset_version_dataset,
    datasource_dataset,
    job_type_job,
    output_statistics_output_dataset,
    processing_engine_run,
    schema_dataset,
    sql_job,
)
from openlineage.client.transport.file import FileConfig, FileTransport

FACETS = {
    "columnLineage": column_lineage_dataset.ColumnLineageDatasetFacet,
    "dataSource": datasource_dataset.DatasourceDatasetFacet,
    "datasetType": dataset_type_dataset.DatasetTypeDatasetFacet,
    "jobType": job_type_job.JobTypeJobFacet,
    "outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet,
    "processing_engine": processing_engine_run.ProcessingEngineRunFacet,
    "schema": schema_dataset.SchemaDatasetFacet,
    "sql": sql_job.SQLJobFacet,
    "version": dataset_version_dataset.DatasetVersionDatasetFacet,
}


def facets(given: dict) -> dict:
    """Build facets by their names."""
    return {name: facet(name, dict(content)) for name, content in given.items()}


def facet(name: str, content: dict[str, Any]) -> object:
    """Build one facet; the address of its schema must be the one that the class was generated from."""
    schema, producer = content.pop("_schemaURL"), content.pop("_producer")
    if name == "schema":
        content["fields"] = [schema_dataset.SchemaDatasetFacetFields(**field) for field in content["fields"]]
    elif name == "columnLineage":
        content["fields"] = {key: lineage(field["inputFields"]) for key, field in content["fields"].items()}
    made = FACETS[name](**content, producer=producer)
    if made._get_schema() != schema:
        raise ValueError(f"{name}: {schema} is not {made._get_schema()}")
    return made


def lineage(inputs: list) -> object:
    """Build what one column comes from."""
    built = [
        column_lineage_dataset.InputField(
            **{**item, "transformations": [column_lineage_dataset.Transformation(**t) for t in item["transformations"]]}
        )
        for item in inputs
    ]
    return column_lineage_dataset.Fields(inputFields=built)


def dataset(kind: type, given: dict) -> object:
    """Build an input or an output."""
    more = {key: facets(given[key]) for key in ("facets", "inputFacets", "outputFacets") if key in given}
    return kind(namespace=given["namespace"], name=given["name"], **more)


def event(given: dict) -> base.RunEvent:
    """Build one event; what it has beyond these keys is an error."""
    known = {"eventType", "eventTime", "producer", "schemaURL", "run", "job", "inputs", "outputs"}
    if set(given) != known:
        raise ValueError(f"an event has {sorted(set(given) ^ known)}")
    made = base.RunEvent(
        eventTime=given["eventTime"],
        producer=given["producer"],
        run=base.Run(given["run"]["runId"], facets(given["run"]["facets"])),
        job=base.Job(given["job"]["namespace"], given["job"]["name"], facets(given["job"]["facets"])),
        eventType=base.EventType[given["eventType"]],
        inputs=[dataset(base.InputDataset, item) for item in given["inputs"]],
        outputs=[dataset(base.OutputDataset, item) for item in given["outputs"]],
    )
    if made.schemaURL != given["schemaURL"]:
        raise ValueError(f"{given['schemaURL']} is not {made.schemaURL}")
    return made


def main(read: str, sent: str) -> None:
    """Build and send all events."""
    client = OpenLineageClient(transport=FileTransport(FileConfig(log_file_path=sent, append=True)))
    for given in json.loads(Path(read).read_text()):
        client.emit(event(given))


main(*sys.argv[1:])
