"""API keys: who has none is kept out, who has one may do what it allows, and no key is ever written down."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlsystem.errors import SpecError
from mlsystem.serving import keys
from mlsystem.serving.keys import Keys, fresh
from mlsystem.serving.load import measure
from mlsystem.serving.process import serving
from mlsystem.spec import Serving
from tests.blueprint.asking import Answer, ask
from tests.blueprint.small_system import ROW, classifier, make_system, write_package

PREDICTS, READS, TELLS = (
    fresh(name, [scope]) for name, scope in (("shop", "predict"), ("ops", "admin"), ("crm", "outcomes"))
)
ENTRIES = f" {PREDICTS[1].entry()},\n{READS[1].entry()} {TELLS[1].entry()}\n"
SERVING = Serving(api_keys="env:SMALL_KEYS")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    package = write_package(tmp_path_factory.mktemp("package"), classifier(), api_keys="env:SMALL_KEYS")
    with serving(package, "--package", str(package), environment={"SMALL_KEYS": ENTRIES}) as server:
        yield server.url


def knock(url: str, path: str, secret: str = "", header: str = "Authorization", method: str = "GET") -> Answer:
    value = f"Bearer {secret}" if header == "Authorization" else secret
    body = json.dumps({"rows": [ROW]}).encode() if method == "POST" else None
    return ask(url, method, path, body, {header: value} if secret else {})


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/v2/health/live", "/v2/health/ready"])
def test_probes_and_the_page_need_no_key(url: str, path: str) -> None:
    assert knock(url, path).status == 200


@pytest.mark.parametrize("path", ["/version", "/openapi.json", "/metrics", "/v2", "/v2/models/small", "/nowhere"])
def test_everything_else_is_closed_to_who_has_no_key(url: str, path: str) -> None:
    """Also paths that are not there: who has no key learns nothing about them."""
    answer = knock(url, path)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="predictions"')


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
def test_a_key_opens_what_its_scope_allows_in_either_header(url: str, header: str) -> None:
    secret = PREDICTS[0]
    predicted = knock(url, "/predict", secret, header, "POST")
    metrics = knock(url, "/metrics", secret, header)
    outcomes = knock(url, "/outcomes", secret, header, "POST")
    assert [answer.status for answer in (predicted, metrics, outcomes)] == [200, 403, 403]
    assert outcomes.error["code"] == "scope_missing"
    assert 'error="insufficient_scope", scope="outcomes"' in outcomes.headers["www-authenticate"]


def test_the_scope_outcomes_tells_outcomes_and_nothing_else(url: str) -> None:
    secret = TELLS[0]
    assert [knock(url, path, secret, method="POST").status for path in ("/outcomes", "/predict", "/explain")] == [
        503,  # through the door: this server has no state
        403,
        403,
    ]


def test_an_admin_may_do_everything(url: str) -> None:
    secret = READS[0]
    assert [knock(url, path, secret).status for path in ("/metrics", "/version", "/v2/models/small")] == [200] * 3
    assert knock(url, "/predict", secret, method="POST").status == 200


def test_a_key_that_nobody_has_is_refused_in_the_shape_of_the_path(url: str) -> None:
    predicted, inferred = (knock(url, path, "x" * 43, method="POST") for path in ("/predict", "/v2/models/small/infer"))
    assert (predicted.status, predicted.error["code"]) == (401, "bad_api_key")
    assert (inferred.status, inferred.json) == (
        401,
        {"error": "this key is not known here; ask the system's owner for one"},
    )


@pytest.mark.parametrize("value", [b"Basic eDp5", b"Bearer", b"Bearer \xff\xfe", b"bearer  "])
def test_headers_that_hold_no_key_are_refused(value: bytes) -> None:
    known = Keys([PREDICTS[1]])
    refusal = known.refusal([(b"authorization", value)], "predict")
    assert refusal is not None
    assert refusal.status == 401


def test_a_server_does_not_start_with_entries_that_are_none_and_repeats_nothing_of_them(tmp_path: Path) -> None:
    make_system(tmp_path, 0.0, api_keys="env:SMALL_KEYS")
    command = [sys.executable, "-m", "mlsystem", "serve", "--port", "0", "--dir", str(tmp_path), "--json"]
    environment = {"PYTHONPATH": str(Path(keys.__file__).parents[2]), "SMALL_KEYS": "shop:predict:hunter2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    error: Any = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"], "SMALL_KEYS" in error["message"]) == (2, "bad_api_key", True)
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize("environ", [{}, {"SMALL_KEYS": ""}, {"SMALL_KEYS": " ,\n"}])
def test_a_server_that_shall_have_keys_is_not_open_without_them(environ: dict[str, str]) -> None:
    with pytest.raises(SpecError, match="SMALL_KEYS, which is not set or empty; make a key with"):
        Keys.of(SERVING, environ)


@pytest.mark.parametrize(
    "entry", ["shop:predict", f"shop:all:{'0' * 64}", f"s p:predict:{'0' * 64}", f"shop::{'0' * 64}"]
)
def test_an_entry_that_is_none_is_refused_by_its_place(entry: str) -> None:
    with pytest.raises(SpecError, match=r"key \d+ of SMALL_KEYS is not"):
        Keys.of(SERVING, {"SMALL_KEYS": f"{PREDICTS[1].entry()} {entry}"})


def test_keys_in_the_file_itself_are_refused() -> None:
    with pytest.raises(SpecError, match="keys do not belong into the file"):
        Keys.of(Serving(api_keys="my-secret"), {})


def test_a_key_is_made_by_a_command_and_its_entry_lets_it_in(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mlsystem", "key", "shop", "--scopes", "outcomes+predict", "--json"]
    engine = str(Path(keys.__file__).parents[2])
    done = subprocess.run(command, env={"PYTHONPATH": engine}, cwd=tmp_path, capture_output=True, check=True)
    made = json.loads(done.stdout)
    known = Keys.of(SERVING, {"SMALL_KEYS": made["entry"]})
    headers = [(b"x-api-key", made["key"].encode())]
    assert known is not None
    assert made["key"] not in made["entry"]
    assert [known.refusal(headers, scope) is None for scope in keys.SCOPES] == [True, True, False]


def test_a_server_is_measured_with_its_keys_on(tmp_path: Path) -> None:
    """The measurement's own key is known to its server alone; evaluate and the delivered tests work the same way."""
    package = write_package(tmp_path, classifier(), api_keys="env:SMALL_KEYS")
    found = measure(package, rate_rps=50, seconds=0.3, warmup=5)
    assert (found["errors"], found["requests"] > 0) == (0, True)
