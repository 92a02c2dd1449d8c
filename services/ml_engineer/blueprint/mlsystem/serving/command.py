"""The commands of the serve side: `serve`, `predict`, `smoke`, each `fn(workspace, options) -> dict`.

Owns what the command line says, and to whom. What a command does not need it does not import.
"""

from __future__ import annotations

import http.client
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mlsystem.errors import DataError, RegistryError, ServingError
from mlsystem.registry import registry_of
from mlsystem.serving.package import Package

if TYPE_CHECKING:
    import argparse

    from mlsystem.serving.live import Source
    from mlsystem.stages import Workspace

_PATIENCE_S = 10.0


def serve(workspace: Workspace, options: argparse.Namespace) -> dict[str, object]:
    """`serve [--port N] [--host H] [--version V] [--package DIR]`: answer until SIGTERM or SIGINT.

    One JSON line on stdout says where, once requests are answered: event "serving", url, host, port, pid, version.
    Without `--version` and `--package` the server follows the registry's active version.
    """
    from mlsystem.serving.server import assemble, listen, run

    port = workspace.spec.serving.port if options.port is None else options.port
    with listen(options.host, port) as sock:
        service = assemble(workspace.spec, _source(workspace, options), workspace.reporter)

        def tell(url: str) -> None:
            host, port = sock.getsockname()[:2]
            model = service.live.model
            version = model.name.version if model else None
            line = {"event": "serving", "url": url, "host": host, "port": port, "pid": os.getpid(), "version": version}
            out = sys.stderr if workspace.reporter.mode == "json" else sys.stdout
            out.write(msgspec.json.encode(line).decode() + "\n")
            out.flush()
            workspace.reporter.progress("serve", None, f"{url}/predict, documents at {url}/docs")

        return run(service, sock, tell)


def predict(workspace: Workspace, options: argparse.Namespace) -> dict[str, object]:
    """`predict --in F --out F [--version V]`: predict a file; the ending `.jsonl` means JSON lines, any other CSV."""
    from mlsystem.serving.batch import predict_file
    from mlsystem.serving.model import Model

    source, target = Path(options.input), Path(options.output)
    if not source.is_file():
        raise DataError("no_such_file", f"there is no file {source}")
    if not target.parent.is_dir():
        raise DataError("no_such_directory", f"there is no directory {target.parent} to write {target.name} into")
    model = Model(_package(workspace, options.version), name=workspace.spec.name)
    reporter = workspace.reporter
    count = predict_file(model, source, target, lambda rows: reporter.progress("predict", None, f"{rows} rows"))
    return {
        "version": model.name.version,
        "out": str(target),
        "rows": count.rows,
        "predicted": count.rows - count.refused,
        "refused": count.refused,
        **({"first_refusal": count.first_refusal} if count.refused else {}),
        "warnings": count.warnings,
    }


def smoke(workspace: Workspace, options: argparse.Namespace) -> dict[str, object]:
    """`smoke [--url U]`: post one row of the data to a server, by default the one on `serving.port`."""
    from mlsystem.serving.examples import example_rows

    package = _package(workspace, None)
    row = example_rows(package.schema(), package.reference())[0]
    url = (options.url or f"http://127.0.0.1:{workspace.spec.serving.port}").rstrip("/")
    (answer,) = _post(f"{url}/predict", {"rows": [row]})["predictions"]
    return {"ok": True, "version": answer["version"], "prediction": answer["prediction"], "row": row}


def _source(workspace: Workspace, options: argparse.Namespace) -> Source:
    from mlsystem.serving.live import Active, Fixed

    if options.package is not None:
        return Fixed(Package.read(Path(options.package)))
    if options.version is not None:
        return Fixed(Package.stored(registry_of(workspace), options.version))
    return Active(registry_of(workspace))


def _package(workspace: Workspace, version: int | None) -> Package:
    """Return a version from the registry, the active one if None."""
    registry = registry_of(workspace)
    wanted = registry.ledger().active if version is None else version
    if wanted is None:
        raise RegistryError("nothing_active", "no version is active; promote one with `python -m mlsystem promote`")
    return Package.stored(registry, wanted)


def _post(url: str, content: object) -> dict[str, Any]:
    """Post JSON and return the JSON of the answer; ServingError with the server's words if it is not 200."""
    request = urllib.request.Request(  # noqa: S310 - the caller's own server
        url, msgspec.json.encode(content), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:  # noqa: S310
            return msgspec.json.decode(answer.read(), type=dict[str, Any])
    except urllib.error.HTTPError as error:
        told = error.read().decode("utf-8", "replace")
        raise ServingError("smoke_failed", f"{url} answered {error.code}: {told[:500]}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ServingError(
            "no_server", f"nothing answers at {url} ({error}); start it with `python -m mlsystem serve`"
        ) from None
