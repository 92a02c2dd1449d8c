"""What runs the mesh outside this machine: the compose file, the image, the bus's configuration."""

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from services._runtime.settings import Settings
from tests.architecture.readme_tables import variable
from tests.architecture.tree import ROOT, SERVICES, spelled
from tests.compose import Here

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
OURS = [spelled(service) for service in SERVICES]
every_service = pytest.mark.parametrize("service", OURS)


def mounts_of(service: str) -> list[dict[str, Any]]:
    """What a container mounts, in the long form."""
    found: list[dict[str, Any]] = []
    for mount in COMPOSE["services"][service].get("volumes", []):
        if isinstance(mount, str):
            source, target = mount.removesuffix(":ro").rsplit(":", 1)
            found.append({"source": source, "target": target, "read_only": mount.endswith(":ro")})
        else:
            found.append(mount)
    return found


def test_ports_are_published_on_loopback_only() -> None:
    """The bus has keys and no TLS in this setup: nobody else on the network may listen."""
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]

    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_images_are_pinned_to_a_version() -> None:
    """What ran yesterday runs today."""
    images = [service["image"] for service in COMPOSE["services"].values() if "image" in service]

    assert [image for image in images if not re.fullmatch(r"[a-z/]+:\d+\.\d+[a-z0-9.-]*", image)] == []


@every_service
def test_a_container_has_no_rights(service: str) -> None:
    """Not root, no capabilities, nothing to gain."""
    container = COMPOSE["services"][service]

    assert (container["user"], container["cap_drop"], container["security_opt"]) == (
        "${MLMESH_UID:-10001}:${MLMESH_GID:-10001}",
        ["ALL"],
        ["no-new-privileges:true"],
    )


@every_service
def test_a_container_finds_the_bus_the_traces_and_the_workspaces(service: str) -> None:
    """Every service gets the same four variables."""
    environment = COMPOSE["services"][service]["environment"]

    assert {name: environment[name] for name in sorted(environment)[-3:]} == {
        "MLMESH_WORKSPACE_ROOTS": "/workspaces",
        "NATS_URL": "nats://nats:4222",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://jaeger:4318",
    }


@every_service
def test_a_container_sets_only_what_is_a_setting(service: str) -> None:
    """A misspelled variable would be ignored without a word."""
    known = {variable(name, field) for name, field in Settings.model_fields.items()}

    assert set(COMPOSE["services"][service]["environment"]) - known == set()


def test_volumes_and_files_that_compose_names_exist() -> None:
    """Named volumes are declared, mounted files are there."""
    sources = {mount["source"] for service in COMPOSE["services"] for mount in mounts_of(service)}
    files = {source for source in sources if source.startswith("./")}
    named = {source for source in sources if re.fullmatch(r"[a-z]+", source)}

    assert ([file for file in files if not (ROOT / file).is_file()], named) == ([], set(COMPOSE["volumes"]))


@every_service
def test_a_container_sees_its_own_key_alone(service: str) -> None:
    """One part of the volume of keys, to read, and the setting names the file in it."""
    keys = [mount for mount in mounts_of(service) if mount["source"] == "keys"]
    named = COMPOSE["services"][service]["environment"]["MLMESH_NKEY_FILE"]

    assert [(mount["target"], mount["volume"]["subpath"], mount["read_only"]) for mount in keys] == [
        (f"/keys/{service}", service, True)
    ]
    assert named == f"/keys/{service}/{service}.nk"


@every_service
def test_a_container_starts_when_keys_and_streams_are_made(service: str) -> None:
    """Keys before the server, streams before the services."""
    waits = {name: COMPOSE["services"][name]["depends_on"] for name in ("nats", "provision", service)}

    assert {name: [(other, how["condition"]) for other, how in others.items()] for name, others in waits.items()} == {
        "nats": [("keys", "service_completed_successfully")],
        "provision": [("nats", "service_healthy")],
        service: [("provision", "service_completed_successfully")],
    }


def test_the_image_is_made_of_what_the_context_sends() -> None:
    """What the Dockerfile copies is let through by .dockerignore, and exists."""
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    copied = {name for line in re.findall(r"^COPY (.+) \S+$", dockerfile, re.MULTILINE) for name in line.split()}
    sent = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)

    missing = [name for name in copied if not (ROOT / name).exists()]
    unsent = [name for name in copied if not any(name == path or name.startswith(f"{path}/") for path in sent)]
    assert (missing, unsent) == ([], [])


def test_the_image_runs_as_nobody_in_particular() -> None:
    """The last word on the user is a number above the system's."""
    users = re.findall(
        r"^USER (\d+):(\d+)$", (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE
    )

    assert users == [("10001", "10001")]


def test_the_bus_starts_with_its_configuration_and_writes_each_event_to_disk(tmp_path: Path) -> None:
    """A real server takes the file; JetStream is on, and an acknowledged event survives a power cut."""
    here = Here(tmp_path)
    here.start_bus()
    try:
        configured = _monitored(here.monitor, "jsz")["config"]
        flags = _monitored(here.monitor, "varz")["feature_flags"]
    finally:
        here.stop()

    assert (configured["sync_always"], flags["js_ack_fc_v2"]) == (True, False)


def _monitored(port: int, what: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{what}", timeout=5) as answer:
        return json.load(answer)
