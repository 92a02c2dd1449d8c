"""`python -m services._runtime.health <service>`: exit 0 when the service hears its consumers, else 1 and why.

Services have no HTTP port: the probe asks `mesh.ready.<service>`, and every replica answers for itself. It judges those
on its own host, the container that it runs in: another replica that is well says nothing about this one. Owns asking
how a service is; what is wrong with it is the service's own word (service.py).
"""

import asyncio
import json
import socket
import sys
from dataclasses import dataclass
from typing import Any, Final

from nats.aio.msg import Msg

from contracts import subjects
from services._runtime.bus import Bus
from services._runtime.errors import BusUnavailable, MeshError, NobodyAnswers
from services._runtime.settings import Settings
from services._runtime.telemetry import configure_logs

PATIENCE_S: Final = 3.0
_QUIET_S: Final = 0.2
"""How long after an answer another replica's may take."""
FROZEN: Final = "does not answer: it is frozen, too busy to answer, or its connection is dead"


@dataclass(frozen=True, slots=True)
class Replica:
    """One process of a service, by its own word."""

    host: str
    pid: int
    trouble: str
    """Why it is not ready; empty when it is."""


async def trouble(bus: Bus, service: str) -> str:
    """Why the first replica that answers is not ready; empty when it is. Raises BusUnavailable when nobody answers."""
    await bus.request(f"$SRV.PING.{service}", b"", timeout_s=PATIENCE_S)
    answer = await bus.request(subjects.ready(service), b"", timeout_s=PATIENCE_S)
    return str(json.loads(answer.data)["trouble"])


async def replicas(bus: Bus, service: str, *, host: str = "") -> list[Replica]:
    """Every replica that answers, or those on one host.

    Raises: NobodyAnswers when none runs; BusUnavailable when those that run say nothing.
    """
    answers: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = bus.client.new_inbox()
    end = await bus.subscribe(inbox, answers.put)
    try:
        await bus.client.publish(subjects.ready(service), b"", reply=inbox)
        found = await _collected(answers, service, host)
    finally:
        await end()
    return sorted(found, key=lambda replica: (replica.host, replica.pid))


async def _collected(answers: "asyncio.Queue[Msg]", service: str, host: str) -> list[Replica]:
    """What comes until it is quiet; on one host, whoever is far away may be the first to answer."""
    found: list[Replica] = []
    patience_s = PATIENCE_S
    while True:
        try:
            async with asyncio.timeout(patience_s):
                message = await answers.get()
        except TimeoutError:
            if found:
                return found
            raise BusUnavailable(f"{service} {FROZEN}") from None
        if (message.headers or {}).get("Status") == "503":
            raise NobodyAnswers(subjects.ready(service))
        replica = _told(message)
        if host in {"", replica.host} or not replica.host:
            found.append(replica)
            patience_s = _QUIET_S


def _told(message: Msg) -> Replica:
    """What a replica says; one that cannot say how it is, is in trouble."""
    try:
        told: dict[str, Any] = json.loads(message.data)
        return Replica(told["host"], told["pid"], told["trouble"])
    except (ValueError, KeyError, TypeError):
        why = (message.headers or {}).get("Nats-Service-Error", "it answers what nobody can read")
        return Replica("", 0, f"it cannot say how it is: {why}")


async def _probe(service: str) -> str:
    bus = await Bus.connect(Settings.read(connect_timeout_s=PATIENCE_S), "health")
    try:
        found = await replicas(bus, service, host=socket.gethostname())
    except NobodyAnswers:
        return "not running"
    except BusUnavailable:
        return f"{service} on this host {FROZEN}; or it runs elsewhere only"
    finally:
        await bus.close()
    return "; ".join(replica.trouble for replica in found if replica.trouble)


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
