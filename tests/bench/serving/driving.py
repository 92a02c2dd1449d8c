"""The load: wrk as fast as a server answers, and requests at a given rate whether it answers or not.

Owns one measurement of each. Latency of the second counts from when a request was due (`mlsystem.serving.load`).
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlsystem.serving.load import closed_loop, open_loop, run
from tests.bench.serving.contender import Running

CONNECTIONS: Final = 16
_WARM_UP: Final = 200


@dataclass(frozen=True, slots=True)
class Saturated:
    """What a server gives when it is never left alone."""

    rps: float
    cpu_us: float
    """Processor time of the server for one request."""


def saturate(server: Running, seconds: int, folder: Path) -> Saturated:
    """Ask with wrk from 16 connections; RuntimeError if an answer is no 200."""
    script = _script(server, folder)
    before = server.cpu_s()
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script), server.url]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used = server.cpu_s() - before
    if "Non-2xx" in told or "Socket errors" in told:
        raise RuntimeError(f"{server.contender.name}: {told}")
    requests = re.search(r"(\d+) requests in", told)
    rate = re.search(r"Requests/sec:\s*([\d.]+)", told)
    if requests is None or rate is None:
        raise RuntimeError(f"wrk said nothing of requests: {told}")
    return Saturated(float(rate.group(1)), used / max(1, int(requests.group(1))) * 1e6)


def p99_ms(server: Running, rate_rps: float, seconds: float) -> float:
    """99th percentile of the answer time at a rate; RuntimeError if a request was lost or refused."""
    payloads = [_payload(server, body) for body in server.bodies]
    run(closed_loop(server, payloads, count=_WARM_UP))
    window = run(open_loop(server, payloads, rate_rps=rate_rps, seconds=seconds))
    if window.errors:
        raise RuntimeError(f"{server.contender.name}: {dict(window.statuses)}")
    return window.quantile_ms(0.99)


def _payload(server: Running, body: bytes) -> bytes:
    head = f"POST {server.contender.path} HTTP/1.1\r\nHost: {server.host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _script(server: Running, folder: Path) -> Path:
    """A Lua script that sends every row in turn."""
    bodies = ",".join(f"[==[{body.decode()}]==]" for body in server.bodies)
    script = folder / f"{server.contender.name}.lua"
    script.write_text(
        f"local bodies = {{{bodies}}}\nlocal made, i = {{}}, 0\n"
        'wrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\n'
        f"local path = '{server.contender.path}'\n"
        "init = function() for k = 1, #bodies do made[k] = wrk.format(nil, path, nil, bodies[k]) end end\n"
        "request = function() i = i % #made + 1 return made[i] end\n"
    )
    return script
