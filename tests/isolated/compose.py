"""The delivered compose file, brought up with podman: `python -m tests.isolated compose`.

Needs what `image` needs, and iptables and aardvark-dns for the network between the containers. The server is the
delivered image. Prometheus comes from Debian's package under the image's place, since no container registry is
reachable here; the network, the mounts, the configuration and the alert rules are those of the file. Grafana is left
out: there is no package of it.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from services._runtime.embedded import free_port
from tests.environments import environment
from tests.isolated import image
from tests.isolated.saying import say

_PROMETHEUS: Final = "localhost/prometheus-of-debian"
_PATIENCE_S: Final = 90.0
_LIMITS: Final = {"nofile": {"soft": 1024, "hard": 1024}, "nproc": {"soft": 1024, "hard": 1024}}


def run(_arguments: Sequence[str]) -> int:
    """Bring server and Prometheus up, ask the one and look at the other; return 0 if all is well."""
    if missing := [program for program in ("podman", "iptables", "prometheus") if shutil.which(program) is None]:
        say(f"not to be had here: {', '.join(missing)}")
        return 1
    compose = environment(Path(__file__).with_name("compose.txt")).python.with_name("podman-compose")
    with tempfile.TemporaryDirectory(prefix="mlsystem-compose-") as scratch:
        port, alerts = free_port(), free_port()
        directory = image.standing(Path(scratch), {"port": port})
        try:
            image.built(directory, image.build_flags(Path(scratch)))
            _prometheus(Path(scratch))
            _up(compose, directory, url=f"http://127.0.0.1:{port}", alerts=alerts)
        finally:
            image.removed("customers-binary", _PROMETHEUS)
    return 0


def _up(compose: Path, directory: Path, *, url: str, alerts: int) -> None:
    """Bring server and Prometheus up, ask them, and take them down."""
    files = ("-f", "deploy/compose.yml", "-f", str(_changes(directory, alerts)))
    try:
        image.do([str(compose), *files, "up", "--detach", "--no-build", "serve", "prometheus"], directory)
        asked = image.do(["make", "smoke", f"PYTHON={sys.executable}", f"URL={url}"], directory)
        say(next(line for line in asked.splitlines() if line.startswith("version:")))
        _scraped(f"http://127.0.0.1:{alerts}")
    finally:
        image.do([str(compose), *files, "down", "--volumes"], directory)


def _prometheus(root: Path) -> None:
    """An image of this machine's Prometheus, with the user and the program that the real one has."""
    folder = root / "prometheus"
    folder.mkdir()
    shutil.copy(shutil.which("prometheus") or "", folder / "prometheus")
    (folder / "Dockerfile").write_text(
        f"FROM {image.BASE}\nCOPY prometheus /bin/prometheus\n"
        'RUN install -d -o nobody /prometheus\nUSER nobody\nENTRYPOINT ["/bin/prometheus"]\n'
    )
    image.do(["podman", "build", "--isolation=chroot", "--tag", _PROMETHEUS, "."], folder)


def _changes(directory: Path, alerts: int) -> Path:
    """What this machine cannot do as the file says: pull an image, check health without systemd, raise limits."""
    services: dict[str, Any] = {
        "serve": {"healthcheck": {"disable": True}, "ulimits": _LIMITS},
        "prometheus": {"image": _PROMETHEUS, "ulimits": _LIMITS},
    }
    file = directory / "work" / "changes.yml"
    file.write_text(yaml.safe_dump({"services": services}), encoding="utf-8")
    delivered = directory / "deploy" / "compose.yml"
    delivered.write_text(delivered.read_text().replace("127.0.0.1:9090:9090", f"127.0.0.1:{alerts}:9090"))
    return file


def _scraped(url: str) -> None:
    """Prometheus reaches the server by its name in the network, and has loaded every rule."""
    targets = _until(
        lambda: [one["health"] for one in _asked(f"{url}/api/v1/targets")["activeTargets"]], lambda found: "up" in found
    )
    rules = _until(lambda: _rules(url), lambda found: found != [] and set(found) == {"ok"})
    say(f"Prometheus scrapes {len(targets)} target, {targets[0]}; evaluates {len(rules)} rules, all of them well")


def _rules(url: str) -> list[str]:
    """How each rule fared when it was evaluated last."""
    return [rule["health"] for group in _asked(f"{url}/api/v1/rules")["groups"] for rule in group["rules"]]


def _asked(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - a server of our own
        return json.load(answer)["data"]


def _until(ask: Callable[[], list[str]], enough: Callable[[list[str]], bool]) -> list[str]:
    """What was asked, once it is enough; SystemExit if that does not come in time."""
    deadline = time.monotonic() + _PATIENCE_S
    found: list[str] = []
    while time.monotonic() < deadline:
        try:
            found = ask()
        except OSError:
            found = []
        if enough(found):
            return found
        time.sleep(1)
    raise SystemExit(f"it did not come in {_PATIENCE_S:g} s: {found}")
