"""The OpenAPI document says what the server does: every route, every example, every answer."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import jsonschema
import pytest
from starlette.routing import Route

from mlsystem.output import Reporter
from mlsystem.registry import Note
from mlsystem.serving.app import build
from mlsystem.serving.command import openapi
from mlsystem.serving.keys import OPEN, own_key
from mlsystem.serving.live import Fixed
from mlsystem.serving.openapi import document
from mlsystem.serving.package import Package
from mlsystem.serving.process import Listening, serving
from mlsystem.serving.server import assemble
from mlsystem.spec import Serving, read_spec
from mlsystem.stages import Workspace
from tests.blueprint.asking import ask, predict
from tests.blueprint.small_system import ROW, classifier, make_system, write_package

PLACES = {"{name}": "small", "{version}": "1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    root = tmp_path_factory.mktemp("system")
    make_system(root, 0.0).promote(1, Note("a test", ""))
    with serving(root) as found:
        yield found


@pytest.fixture(scope="module")
def api(server: Listening) -> dict[str, Any]:
    return ask(server.url, "GET", "/openapi.json").json


def fits(api: dict[str, Any], schema: object, content: object) -> None:
    """Raise if the content does not fit a schema of the document."""
    jsonschema.validate(content, {"components": api["components"], "allOf": [schema]}, jsonschema.Draft202012Validator)


def filled(path: str) -> str:
    for name, value in PLACES.items():
        path = path.replace(name, value)
    return path


def operations(api: dict[str, Any], method: str) -> list[tuple[str, dict[str, Any]]]:
    return [(path, item[method]) for path, item in api["paths"].items() if method in item]


def test_every_route_is_described_and_nothing_else(tmp_path: Path) -> None:
    package = write_package(tmp_path, classifier())
    service = assemble(read_spec(package), Fixed(Package.read(package)), Reporter("json"))
    described = document(service.live.require(), service.limits)["paths"]
    routes = {
        (route.path, method.lower())
        for route in cast("list[Route]", build(service).routes)
        for method in route.methods or ()
        if method != "HEAD"
    }
    service.threads.shutdown()
    assert routes == {(path, method) for path, item in described.items() for method in item}


def test_its_schemas_are_schemas_and_its_operations_have_names_of_their_own(api: dict[str, Any]) -> None:
    for schema in api["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    names = [operation["operationId"] for item in api["paths"].values() for operation in item.values()]
    assert len(set(names)) == len(names) == 19


def test_what_is_read_answers_in_the_documented_shape(server: Listening, api: dict[str, Any]) -> None:
    for path, operation in operations(api, "get"):
        answer = ask(server.url, "GET", filled(path))
        content = operation["responses"][str(answer.status)]["content"]
        media = answer.headers["content-type"].split(";")[0]
        assert (path, answer.status, media in content) == (path, 200, True)
        if media == "application/json":
            fits(api, content[media]["schema"], answer.json)


def test_every_example_of_a_request_fits_its_schema_works_and_is_answered_as_documented(
    server: Listening, api: dict[str, Any]
) -> None:
    seen = 0
    for path, operation in operations(api, "post"):
        for media, content in operation["requestBody"]["content"].items():
            if (example := content.get("example")) is None:
                continue
            fits(api, content["schema"], example)
            body = example.encode() if isinstance(example, str) else json.dumps(example).encode()
            answer = ask(server.url, "POST", filled(path), body, {"Content-Type": media})
            told = operation["responses"][str(answer.status)]["content"]
            assert (path, answer.status // 100) == (path, 2)
            if "application/json" in told:
                fits(api, told["application/json"]["schema"], answer.json)
            seen += 1
    assert seen == 7


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/predict", b"{", 400),
        ("/predict", b'{"rows": [{}]}', 422),
        ("/explain", b'{"rows": []}', 422),
        ("/outcomes", b'{"outcomes": [{"id": "a", "actual": "Perhaps"}]}', 422),
        ("/batch", b"", 415),
        ("/v2/models/{name}/infer", b"{}", 400),
    ],
)
def test_what_is_refused_is_refused_in_the_documented_shape(
    server: Listening, api: dict[str, Any], path: str, body: bytes, status: int
) -> None:
    answer = ask(server.url, "POST", filled(path), body)
    content = api["paths"][path]["post"]["responses"][str(status)]["content"]["application/json"]
    fits(api, content["schema"], answer.json)
    assert answer.status == status


@pytest.mark.parametrize(
    ("change", "right"),
    [
        ({"tenure": "1.5e3"}, True),
        ({"tenure": ""}, True),
        ({"tenure": None}, True),
        ({"plan": 7}, True),
        ({"joined": ""}, True),
        ({"extra": {}}, True),
        ({"tenure": "many"}, False),
        ({"tenure": True}, False),
        ({"plan": {}}, False),
        ({"joined": 7}, False),
    ],
)
def test_a_row_fits_as_it_is_answered_or_refused(
    server: Listening, api: dict[str, Any], change: dict[str, Any], *, right: bool
) -> None:
    row = {**ROW, **change}
    if right:
        fits(api, api["components"]["schemas"]["Row"], row)
    else:
        with pytest.raises(jsonschema.ValidationError):
            fits(api, api["components"]["schemas"]["Row"], row)
    assert predict(server.url, row).status == (200 if right else 422)


def test_a_command_writes_what_the_server_of_the_version_says(tmp_path: Path) -> None:
    make_system(tmp_path, 0.0, 1.0).promote(2, Note("a test", ""))
    workspace = Workspace.open(tmp_path, Reporter("json"))
    told = openapi(workspace, Namespace(out=tmp_path / "openapi.json", version=None))
    with serving(tmp_path) as server:
        answered = ask(server.url, "GET", "/openapi.json").json
    written = json.loads((tmp_path / "openapi.json").read_text())
    ids = [made["paths"]["/predict"]["post"]["responses"]["200"]["content"] for made in (written, answered)]
    for content in ids:
        content["application/json"]["example"]["predictions"][0].pop("id")
    assert (told["version"], written) == (2, answered)


def test_with_keys_it_says_what_needs_which(tmp_path: Path) -> None:
    package = write_package(tmp_path, classifier(), api_keys="env:SMALL_KEYS")
    secret, environment = own_key(Serving(api_keys="env:SMALL_KEYS"))
    with serving(package, "--package", str(package), environment=environment) as server:
        api = ask(server.url, "GET", "/openapi.json", headers={"X-API-Key": secret}).json
    closed = {
        path: [code for code in operation["responses"] if code in {"401", "403"}]
        for path, item in api["paths"].items()
        for operation in item.values()
        if "security" not in operation
    }
    assert api["security"] == [{"bearer": []}, {"header": []}]
    assert set(api["paths"]) - set(closed) == OPEN
    assert set(map(tuple, closed.values())) == {("401", "403")}
    assert "scope outcomes" in api["paths"]["/outcomes"]["post"]["description"]
