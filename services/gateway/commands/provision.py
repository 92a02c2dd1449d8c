"""`mlmesh provision`: makes what the bus needs before anybody works on it.

With `--keys` it touches files alone: a seed file for each role, and the permissions that nats-server includes. Without,
it makes streams, durables and buckets on the bus at NATS_URL, in the provisioner's role where roles have keys. Both may
be run again at any time: what is there is kept, what has another shape is changed.
"""

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.permissions import PROVISIONER
from services._runtime import credentials, telemetry
from services._runtime.bus import Bus
from services._runtime.provision import durables, provision
from services._runtime.settings import Settings
from services.gateway.exits import Exit, Usage
from services.gateway.output import Output


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What stands on the command line."""

    keys: str | None
    nats_conf: str


async def execute(options: Options, output: Output) -> int:
    """Makes keys, or streams. Raises Usage without a bus; Forbidden in another role than the provisioner's."""
    if options.keys is not None:
        await asyncio.to_thread(_make_keys, Path(options.keys), options.nats_conf, output)
    elif options.nats_conf:
        raise Usage("--nats-conf says where the permissions for the keys go: give --keys DIR too")
    else:
        await _make_streams(output)
    return Exit.SUCCESS


def _make_keys(directory: Path, nats_conf: str, output: Output) -> None:
    """Seeds are written, never shown."""
    seeds = credentials.make_seeds(directory)
    file = Path(nats_conf) if nats_conf else directory / "nats" / "authorization.conf"
    changed = credentials.write_whole(file, credentials.authorization({role: seed[1] for role, seed in seeds.items()}))
    roles: dict[str, Any] = {
        role: {"seed_file": str(path), "public_key": public, "made": made}
        for role, (path, public, made) in seeds.items()
    }
    told = [f"{'made' if made else 'kept'} {path}" for path, _, made in seeds.values()]
    what = f"{'wrote' if changed else 'kept'} {file}"
    after = "have the server read it: nats-server --signal reload, or start it" if changed else "nothing else to do"
    output.result({"roles": roles, "nats_conf": str(file), "changed": changed}, "\n".join([*told, what, after]))


async def _make_streams(output: Output) -> None:
    settings = Settings.read()
    if not settings.nats_url:
        raise Usage("set NATS_URL to the bus whose streams are to be made; an embedded mesh makes its own")
    telemetry.configure_logs("error", sys.stderr)
    bus = await Bus.connect(settings, PROVISIONER)
    try:
        done = await provision(bus)
        consumers = [f"{stream}/{config['durable_name']}" for stream, config in durables(bus)]
    finally:
        await bus.close()
    lines = [f"{change} {name}" for name, change in done.items()]
    output.result({"streams": done, "durables": consumers}, "\n".join([*lines, f"durables: {', '.join(consumers)}"]))
