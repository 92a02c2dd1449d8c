"""Every service has its place: the same files, a container, a consumer, an entry point, a row in the README."""

import ast
import asyncio
import tomllib
from pathlib import Path

import pytest
import yaml

from contracts import subjects
from services._runtime.bus import Bus
from services._runtime.embedded import EmbeddedServer
from services._runtime.provision import provision
from services._runtime.settings import Settings
from tests.architecture import readme_tables
from tests.architecture.tree import ROOT, SERVICES, parsed, spelled

every_service = pytest.mark.parametrize(
    "service", sorted({*SERVICES, *(s.replace("-", "_") for s in subjects.SERVICES)})
)


@pytest.fixture(scope="module")
def durables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Stream -> durables, as the provisioner makes them on a real server."""

    async def provisioned() -> dict[str, list[str]]:
        server = EmbeddedServer(tmp_path_factory.mktemp("nats"), Settings.read(bus_patience_s=5))
        await server.start()
        bus = await Bus.connect(server.settings, "architecture", url=server.url)
        try:
            await provision(bus)
            listed = {stream: await bus.api(f"CONSUMER.NAMES.{stream}", {}) for stream in subjects.STREAMS}
        finally:
            await bus.close()
            await server.stop()
        return {stream: answer["consumers"] or [] for stream, answer in listed.items()}

    return asyncio.run(provisioned())


def test_the_folders_are_the_services_of_the_contracts() -> None:
    """A service that the contracts do not name has no subjects; one without a folder does not run."""
    assert sorted(spelled(service) for service in SERVICES) == sorted(subjects.SERVICES)


@every_service
@pytest.mark.parametrize("name", ["__init__.py", "__main__.py", "handlers.py", "README.md"])
def test_a_service_has_the_same_files_in_the_same_roles(service: str, name: str) -> None:
    """Wiring, decisions and documentation are found where they are in every other service."""
    assert (ROOT / "services" / service / name).is_file()


@every_service
def test_a_service_is_wired_on_one_screen(service: str) -> None:
    """`__main__.py` is the routing table: subject to handler, at most about sixty lines, and a `start`."""
    text = (ROOT / "services" / service / "__main__.py").read_text(encoding="utf-8")
    defined = {node.name for node in ast.parse(text).body if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)}

    assert (len(text.splitlines()) <= 70, "start" in defined) == (True, True)


@every_service
def test_a_service_is_found_by_its_name(service: str) -> None:
    """One process runs services by entry points: without one, `mlmesh up` would leave the service out."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]

    assert declared["mlmesh.services"].get(spelled(service)) == f"services.{service}.__main__:start"


@every_service
def test_a_service_runs_in_compose(service: str) -> None:
    """The same image with another argument, its own command and its own health check."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    found = compose.get(spelled(service), {})

    assert (found.get("build"), found.get("command"), found.get("healthcheck", {}).get("test")) == (
        {"context": ".", "dockerfile": "deploy/Dockerfile", "args": {"SERVICE": service}},
        ["python", "-m", f"services.{service}"],
        ["CMD", "python", "-m", "services._runtime.health", spelled(service)],
    )


@every_service
def test_a_service_has_a_durable_on_the_bus(service: str, durables: dict[str, list[str]]) -> None:
    """What a service is to do waits for it while it is away. A read model starts from its own database instead."""
    if spelled(service) == subjects.CONTEXT_MANAGER:
        assert "OrderedConsumer" in _names_in(ROOT / "services" / service)
    else:
        assert [stream for stream, names in durables.items() if spelled(service) in names] != []


def test_every_durable_belongs_to_a_service(durables: dict[str, list[str]]) -> None:
    """A durable nobody reads would hold messages for ever."""
    known = {*subjects.SERVICES, subjects.SYSTEMS_DURABLE}

    assert {name for names in durables.values() for name in names} - known == set()


@every_service
def test_a_service_has_its_row_in_the_readme(service: str) -> None:
    """Newcomers find every service in one table."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    assert f"services/{service}/README.md" in readme_tables.written(readme, "services")


def _names_in(folder: Path) -> set[str]:
    """Every name that the folder's modules use."""
    trees = [parsed(path) for path in folder.glob("*.py")]
    return {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}
