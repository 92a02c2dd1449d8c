"""An exported model in an MLflow tracking server, through its REST API.

Owns the order of the calls: an experiment named after the system, a run with parameters, metrics and tags, the
model's files as its artifacts, and a version of a registered model. Credentials are MLflow's own variables. A run
that fails half-way is marked as failed and stays visible.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote, urlsplit

from mlsystem.errors import MlsystemError
from mlsystem.export.http import send
from mlsystem.versions import Version

_API: Final = "/api/2.0/mlflow"
_ARTIFACTS: Final = "/api/2.0/mlflow-artifacts/artifacts"
_MODEL: Final = "model"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Store:
    """A tracking server."""

    url: str
    headers: Mapping[str, str]

    @classmethod
    def at(cls, url: str, environment: Mapping[str, str]) -> Store:
        """Return the server at a URL, with the credentials that MLflow's variables hold."""
        token, user = environment.get("MLFLOW_TRACKING_TOKEN", ""), environment.get("MLFLOW_TRACKING_USERNAME", "")
        pair = f"{user}:{environment.get('MLFLOW_TRACKING_PASSWORD', '')}".encode()
        basic = {"Authorization": f"Basic {base64.b64encode(pair).decode()}"} if user else {}
        return cls(url.rstrip("/"), {"Authorization": f"Bearer {token}"} if token else basic)

    def post(self, path: str, **body: object) -> Json:
        """Call the REST API and return its answer."""
        return cast("Json", send("POST", f"{self.url}{_API}/{path}", body, self.headers) or {})

    def get_or_none(self, path: str) -> Json | None:
        """Return what the REST API knows, None if it knows nothing of that name."""
        try:
            return cast("Json", send("GET", f"{self.url}{_API}/{path}", None, self.headers))
        except MlsystemError as error:
            if error.details and error.details[0]["status"] == 404:
                return None
            raise

    def upload(self, place: str, content: bytes) -> None:
        """Store an artifact through the server."""
        send("PUT", f"{self.url}{_ARTIFACTS}/{quote(place)}", content, self.headers)


def log_model(url: str, version: Version, folder: Path, metrics: Mapping[str, float]) -> dict[str, object]:
    """Log a model directory with its metrics and register it; return where it is to be found."""
    store = Store.at(url, os.environ)
    run = _begin(store, version)
    run_id = str(run["info"]["run_id"])
    try:
        _describe(store, run_id, version, metrics)
        place = _artifact_place(str(run["info"]["artifact_uri"]))
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            store.upload(f"{place}/{_MODEL}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        registered = _register(store, run, version)
    except MlsystemError:
        store.post("runs/update", run_id=run_id, status="FAILED", end_time=_now_ms())
        raise
    store.post("runs/update", run_id=run_id, status="FINISHED", end_time=_now_ms())
    return {
        "run_id": run_id,
        "experiment_id": str(run["info"]["experiment_id"]),
        "model": f"models:/{version.spec.name}/{registered}",
        "metrics": dict(metrics),
    }


def _begin(store: Store, version: Version) -> Json:
    name = version.spec.name
    found = store.get_or_none(f"experiments/get-by-name?experiment_name={quote(name)}")
    experiment = found["experiment"] if found else store.post("experiments/create", name=name)
    tags = {"mlflow.runName": f"{name} {version.number}", "mlsystem.digest": version.entry.digest}
    body: Json = {
        "experiment_id": experiment["experiment_id"],
        "start_time": _now_ms(),
        "tags": [{"key": key, "value": value} for key, value in tags.items()],
    }
    return store.post("runs/create", **body)["run"]


def _describe(store: Store, run_id: str, version: Version, metrics: Mapping[str, float]) -> None:
    at = _now_ms()
    parameters = {
        "task.kind": version.spec.task.kind,
        "task.target": version.spec.task.target,
        "search.seed": str(version.spec.search.seed),
        "snapshot": version.snapshot.digest,
        "engine": str(version.manifest.get("engine", "")),
    }
    store.post(
        "runs/log-batch",
        run_id=run_id,
        metrics=[{"key": name, "value": value, "timestamp": at, "step": 0} for name, value in metrics.items()],
        params=[{"key": name, "value": value} for name, value in parameters.items()],
    )


def _artifact_place(uri: str) -> str:
    """Return the path of a run's artifacts behind the server; MlsystemError if the server does not pass them on."""
    parts = urlsplit(uri)
    if parts.scheme != "mlflow-artifacts":
        text = (
            f"this server keeps artifacts at {parts.scheme}://, which only MLflow itself can write to; start it with "
        )
        raise MlsystemError("export_refused", text + "`--serve-artifacts`, or export to a directory")
    return parts.path.strip("/")


def _register(store: Store, run: Json, version: Version) -> str:
    name = version.spec.name
    if store.get_or_none(f"registered-models/get?name={quote(name)}") is None:
        store.post("registered-models/create", name=name)
    source = f"{run['info']['artifact_uri']}/{_MODEL}"
    created = store.post("model-versions/create", name=name, source=source, run_id=run["info"]["run_id"])
    return str(created["model_version"]["version"])


def _now_ms() -> int:
    return int(time.time() * 1000)
