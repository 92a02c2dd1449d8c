"""An S3 of the tests' own: moto's server as a process, one a test process, a fresh bucket for whoever asks."""

from __future__ import annotations

import atexit
import functools
import http.client
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_START_S = 30.0


@dataclass(frozen=True, slots=True)
class Bucket:
    """An empty bucket, and the variables under which it is reached."""

    url: str
    environment: Mapping[str, str]


def fresh_bucket() -> Bucket:
    """Return an empty bucket in this process's server."""
    port, name = _server(), f"test-{uuid.uuid4().hex}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("PUT", f"/{name}", headers={"Authorization": _AUTHORIZATION})
    assert connection.getresponse().status == 200
    connection.close()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "secret-of-the-test",
        "AWS_REGION": "us-east-1",
    }
    return Bucket(f"s3://{name}/registry", environment)


_AUTHORIZATION = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


@functools.cache
def _server() -> int:
    """Start the server and return its port when it answers."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    program = Path(sys.executable).with_name("moto_server")
    process = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )
    _servers.append(process)
    atexit.register(process.kill)
    deadline = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            alive = process.poll() is None and time.monotonic() < deadline
            assert alive, "moto's server does not answer"
            time.sleep(0.02)
        else:
            return port


_servers: list[subprocess.Popen[bytes]] = []
