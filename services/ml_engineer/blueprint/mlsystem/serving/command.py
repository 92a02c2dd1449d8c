"""The commands of the serve side: `serve`, `predict`, each `fn(workspace, options) -> dict`.

Owns what the command line says, and to whom. What a command does not need it does not import.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mlsystem.errors import DataError, RegistryError
from mlsystem.output import readable
from mlsystem.registry import registry_of
from mlsystem.serving.package import Package

if TYPE_CHECKING:
    import argparse
    import socket

    from mlsystem.output import Reporter
    from mlsystem.serving.live import Source
    from mlsystem.stages import Workspace


def serve(workspace: Workspace, options: argparse.Namespace) -> dict[str, object]:
    """`serve [--port N] [--host H] [--version V] [--package DIR] [--linger S]`: answer until SIGTERM or SIGINT.

    One JSON line on stdout says where, once requests are answered: event "serving", url, host, port, pid, version.
    Without `--version` and `--package` the server follows the registry's active version.
    """
    from mlsystem.serving.listening import listen
    from mlsystem.serving.workers import own_post

    post = own_post()
    if post is not None:
        return _serve_here(workspace, options, post.socket(), Path(post.board))
    port = workspace.spec.serving.port if options.port is None else options.port
    with listen(options.host, port) as sock:
        if workspace.spec.serving.workers == 1:
            return _serve_here(workspace, options, sock, None)
        return _serve_by_workers(workspace, options, sock)


def _serve_here(
    workspace: Workspace, options: argparse.Namespace, sock: socket.socket, board: Path | None
) -> dict[str, object]:
    from mlsystem.serving.server import assemble, run
    from mlsystem.state import state_of

    state = None if options.package is not None else state_of(workspace)
    source, reporter = _source(workspace, options), workspace.reporter
    service = assemble(workspace.spec, source, reporter, state=state, board=board)

    def tell() -> None:
        model = service.live.model
        _tell(reporter, sock, model.name.version if model else None)

    return run(service, sock, tell, linger_s=options.linger)


def _serve_by_workers(workspace: Workspace, options: argparse.Namespace, sock: socket.socket) -> dict[str, object]:
    from mlsystem.serving.workers import Workers

    command = ["serve", "--dir", str(workspace.root), "--linger", str(options.linger)]
    if options.package is not None:
        command += ["--package", str(options.package.resolve())]
    if options.version is not None:
        command += ["--version", str(options.version)]
    workers = Workers(command, sock, workspace.spec.serving.workers, workspace.reporter)
    return workers.run(lambda version: _tell(workspace.reporter, sock, version), linger_s=options.linger)


def _tell(reporter: Reporter, sock: socket.socket, version: int | None) -> None:
    """Say where requests are answered: to programs on stdout, or on stderr where that belongs to the result."""
    from mlsystem.serving.listening import url_of

    host, port = sock.getsockname()[:2]
    url = url_of(sock)
    line = {"event": "serving", "url": url, "host": host, "port": port, "pid": os.getpid(), "version": version}
    out = sys.stderr if reporter.mode == "json" else sys.stdout
    out.write(msgspec.json.encode(line).decode() + "\n")
    out.flush()
    reporter.progress("serve", None, f"{url}/predict, documents at {url}/docs")


def openapi(workspace: Workspace, options: argparse.Namespace) -> dict[str, object]:
    """`openapi --out F [--version V]`: write how to call the system into a file, as its server would say it."""
    from mlsystem.serving.limits import Limits
    from mlsystem.serving.model import Model
    from mlsystem.serving.openapi import document

    model = Model(_package(workspace, options.version), name=workspace.spec.name)
    serving = workspace.spec.serving
    told = document(model, Limits.of(serving), keys=bool(serving.api_keys))
    options.out.write_bytes(readable(told))
    return {"version": model.name.version, "out": str(options.out), "paths": sorted(told["paths"])}


def predict(workspace: Workspace, options: argparse.Namespace) -> dict[str, object]:
    """`predict --in F --out F [--version V] [--monitor]`: predict a file: .jsonl, .parquet, else CSV.

    Partial rows are completed like those of a server. With `--monitor` the rows count as traffic of now: not by itself,
    since a file may be old rows, or a trial.
    """
    from mlsystem.online.fill import Filler
    from mlsystem.serving.files import Around, predict_file
    from mlsystem.serving.model import Model
    from mlsystem.serving.tally import Tally
    from mlsystem.spec import seconds
    from mlsystem.state import state_of

    source, target = Path(options.input), Path(options.output)
    if not source.is_file():
        raise DataError("no_such_file", f"there is no file {source}")
    if not target.parent.is_dir():
        raise DataError("no_such_directory", f"there is no directory {target.parent} to write {target.name} into")
    model = Model(_package(workspace, options.version), name=workspace.spec.name)
    with contextlib.closing(state_of(workspace)) as state:
        tally = Tally(state, workspace.spec.monitoring) if options.monitor else None
        around = Around(
            tell=lambda rows: workspace.reporter.progress("predict", None, f"{rows} rows"),
            filler=Filler(state, seconds(workspace.spec.monitoring.freshness)) if model.needs.entity else None,
            seen=tally.add if tally else None,
        )
        count = predict_file(model, source, target, around)
        counted = tally is not None and tally.save()
    return {
        "version": model.name.version,
        "out": str(target),
        "rows": count.rows,
        "predicted": count.rows - count.refused,
        "refused": count.refused,
        **({"first_refusal": count.first_refusal} if count.refused else {}),
        "warnings": count.warnings,
        "counted": counted,
    }


def _source(workspace: Workspace, options: argparse.Namespace) -> Source:
    from mlsystem.serving.kept import FILE, Kept
    from mlsystem.serving.live import Active, Fixed

    if options.package is not None:
        return Fixed(Package.read(Path(options.package)))
    if options.version is not None:
        return Fixed(Package.stored(registry_of(workspace), options.version))
    kept = Kept(workspace.root / FILE, lambda text: workspace.reporter.progress("serve", None, text))
    return Active(registry_of(workspace), kept)


def _package(workspace: Workspace, version: int | None) -> Package:
    """Return a version from the registry, the active one if None."""
    registry = registry_of(workspace)
    wanted = registry.ledger().active if version is None else version
    if wanted is None:
        raise RegistryError("nothing_active", "no version is active; promote one with `python -m mlsystem promote`")
    return Package.stored(registry, wanted)
