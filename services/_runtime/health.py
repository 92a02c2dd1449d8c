"""`python -m services._runtime.health <service>`: exit 0 when the service hears its consumers, else 1 and why.

Services have no HTTP port: the probe finds them with `$SRV.PING.<service>` and asks `mesh.ready.<service>`.
"""

import asyncio
import json
import sys

from contracts import subjects
from services._runtime.bus import Bus
from services._runtime.errors import BusUnavailable, MeshError
from services._runtime.settings import Settings
from services._runtime.telemetry import configure_logs

_PATIENCE_S = 3.0


async def trouble(bus: Bus, service: str) -> str:
    """Why the service is not ready; empty when it is. Raises BusUnavailable when nobody answers."""
    await bus.request(f"$SRV.PING.{service}", b"", timeout_s=_PATIENCE_S)
    answer = await bus.request(subjects.ready(service), b"", timeout_s=_PATIENCE_S)
    return str(json.loads(answer.data)["trouble"])


async def _probe(service: str) -> str:
    bus = await Bus.connect(Settings.read(connect_timeout_s=_PATIENCE_S), "health")
    try:
        return await trouble(bus, service)
    except BusUnavailable:
        return "not running"
    finally:
        await bus.close()


def main() -> int:
    """The probe's exit code."""
    if len(sys.argv) != 2:
        print("usage: python -m services._runtime.health SERVICE", file=sys.stderr)  # noqa: T201 - a probe's output
        return 2
    configure_logs("error", sys.stderr)
    try:
        found = asyncio.run(_probe(sys.argv[1]))
    except MeshError as error:
        found = str(error)
    print(found or "ready")  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
