"""Facts that machines declare: manifests, images, pipelines, interfaces, settings."""

import json

import pytest

from services.context_manager.facts import facts_of
from services.context_manager.facts.finding import Source


def found(path: str, text: str) -> list[tuple[str, str, int, float]]:
    return [(f"{f.slot}.{f.field}", f.value, f.line, round(f.confidence, 2)) for f in facts_of(Source(path, text))]


def test_a_python_project_declares_its_stack() -> None:
    """Development groups count half; unknown packages are no facts."""
    text = (
        '[project]\nname = "shop"\ndescription = "Order service of a web shop"\nrequires-python = ">=3.12"\n'
        'dependencies = [\n  "FastAPI[standard] >= 0.115",\n  "psycopg>=3",\n  "obscure-thing",\n]\n'
        '[project.optional-dependencies]\nml = ["scikit_learn"]\n'
    )
    assert found("/pyproject.toml", text) == [
        ("stack.language", "python >=3.12", 4, 0.95),
        ("business.goal", "Order service of a web shop", 3, 0.3),
        ("stack.framework", "fastapi >=0.115", 6, 0.95),
        ("stack.database", "postgresql", 7, 0.76),
        ("stack.framework", "scikit-learn", 11, 0.47),
    ]


def test_poetry_s_tables_are_read_too() -> None:
    """Versions keep their operators."""
    needed = 'python = "^3.11"\ndjango = "^5.0"\nredis = {version = "5.1"}\n'
    text = f'[tool.poetry]\nname = "x"\n[tool.poetry.dependencies]\n{needed}'
    assert found("/pyproject.toml", text) == [
        ("stack.language", "python ^3.11", 4, 0.95),
        ("stack.framework", "django ^5.0", 5, 0.95),
        ("stack.database", "redis", 6, 0.76),
    ]


def test_settings_of_tools_say_nothing_about_the_project() -> None:
    """A pyproject.toml with only a linter in it can stand in any repository."""
    assert found("/pyproject.toml", "[tool.ruff]\nline-length = 100\n") == []


def test_requirements_are_read_line_by_line() -> None:
    """Comments, options and continuation hashes are passed over; a hashed lock counts half."""
    text = "# web\n-r base.txt\nflask==3.0 ; python_version > '3.8'\npymysql\n"
    assert found("/requirements.txt", text) == [
        ("stack.language", "python", 3, 0.8),
        ("stack.framework", "flask ==3.0", 3, 0.95),
        ("stack.database", "mysql", 4, 0.76),
    ]
    assert ("stack.framework", "flask ==3.0", 1, 0.47) in found(
        "/requirements/lock.txt", "flask==3.0 \\\n    --hash=sha256:aa\n"
    )


def test_a_node_package_declares_its_stack() -> None:
    """Lines point at the entry in its own table."""
    package = {
        "name": "shop",
        "engines": {"node": ">=20"},
        "dependencies": {"express": "^5.1.0", "pg": "^8"},
        "devDependencies": {"typescript": "5.6", "vite": "6"},
    }
    assert found("/package.json", json.dumps(package, indent=1)) == [
        ("stack.language", "node >=20", 4, 0.95),
        ("stack.framework", "express ^5.1.0", 7, 0.95),
        ("stack.database", "postgresql", 8, 0.76),
        ("stack.language", "typescript 5.6", 11, 0.95),
        ("stack.framework", "vite 6", 12, 0.47),
    ]


def test_a_dockerfile_names_the_images_it_builds_on() -> None:
    """Arguments are filled from their defaults; stages, scratch and unknown images are passed over."""
    text = (
        "ARG PY=3.12\nFROM --platform=linux/amd64 python:${PY}-slim AS build\nFROM build AS test\nFROM scratch\n"
        "from $UNKNOWN\nFROM ghcr.io/shop/base@sha256:abc\n"
    )
    assert found("/Dockerfile", text) == [
        ("stack.image", "python:3.12-slim", 2, 0.95),
        ("stack.language", "python 3.12", 2, 0.76),
        ("stack.image", "ghcr.io/shop/base@sha256:abc", 6, 0.95),
    ]


def test_a_compose_file_names_databases() -> None:
    """Images of databases are databases; variables without a default are unknown."""
    text = (
        "services:\n  web:\n    build: .\n  db:\n    image: postgres:16.2-alpine\n"
        "  cache:\n    image: bitnami/redis:${V:-7}\n"
        "  other:\n    image: ${IMAGE}\n"
    )
    assert found("/docker-compose.yml", text) == [
        ("stack.database", "postgresql 16.2", 5, 0.95),
        ("stack.database", "redis 7", 7, 0.95),
    ]


def test_workflows_and_pipelines_are_ci() -> None:
    """Also with tags that only GitLab knows."""
    workflow = "name: Tests\non: [push]\njobs:\n  lint: {runs-on: x}\n  test: {runs-on: x}\n"
    assert found("/.github/workflows/ci.yml", workflow) == [
        ("stack.ci", "github actions: Tests (jobs lint, test)", 3, 0.95)
    ]
    pipeline = (
        "stages: [a]\n.base: {script: x}\nbuild:\n  script: !reference [.base, script]\ntest:\n  script: pytest\n"
    )
    assert found("/.gitlab-ci.yml", pipeline) == [("stack.ci", "gitlab ci: jobs build, test", 3, 0.95)]
    assert found("/sub/.gitlab-ci.yml", pipeline) == []


OPENAPI = """openapi: 3.1.0
info:
  title: Checkout
  version: 2.4.1
x-slo:
  latency_p99_ms: 20
  availability: "99.9 %"
x-expected-rps: 50
x-peak-factor: 3
x-rate-limit: 1000
x-generated: 2024
paths:
  /checkout:
    post: {responses: {}}
    parameters: []
  /health:
    get: {responses: {}}
components:
  schemas:
    Customer:
      properties:
        email:
          type: string
          x-pii: true
"""


def test_an_openapi_document_declares_operations_and_service_levels() -> None:
    """Extension fields count when their name says what they are; limits and other numbers do not."""
    assert sorted(found("/openapi.yaml", OPENAPI)) == [
        ("nfr.availability", "99.9 %", 7, 0.95),
        ("nfr.latency", "20 ms p99", 6, 0.95),
        ("scale.rate", "50 rps", 8, 0.95),
        ("scale.spikes", "peak 3x", 9, 0.95),
        ("security.pii", "field email in /openapi.yaml", 24, 0.95),
        ("stack.api", "Checkout 2.4.1: 2 operations: POST /checkout, GET /health", 3, 0.95),
    ]


def test_an_openapi_document_may_be_json() -> None:
    """And other JSON is none."""
    text = json.dumps({"openapi": "3.0.0", "info": {"title": "A"}, "paths": {"/a": {"get": {}}}}, indent=1)
    assert found("/api.json", text) == [("stack.api", "A: 1 operation: GET /a", 4, 0.95)]
    assert found("/data.json", '{"info": {"title": "A"}, "paths": {}}') == []


def test_aliases_that_never_end_are_read_to_an_end() -> None:
    """A document can hold itself, or double with every level."""
    circle = "openapi: 3.1.0\ninfo: {title: A}\npaths: &p\n  /a: *p\n"
    doubling = "openapi: 3.1.0\ninfo: {title: B}\nx-a: &a {k: v}\n" + "".join(
        f"x-{n}: &{n} [*{chr(ord(n) - 1)}, *{chr(ord(n) - 1)}]\n" for n in "bcdefghijklmnopqrstuvwxyz"
    )
    assert [fact[1] for fact in found("/a.yaml", circle)] == ["A: 0 operations"]
    assert [fact[1] for fact in found("/b.yaml", doubling)] == ["B: 0 operations"]


def test_names_of_settings_imply_databases() -> None:
    """Once each; values never got this far."""
    assert found("/.env.example", "PORT\nPOSTGRES_HOST\nPOSTGRES_USER\nREDIS_URL") == [
        ("stack.database", "postgresql", 2, 0.6),
        ("stack.database", "redis", 4, 0.6),
    ]


@pytest.mark.parametrize(
    "path",
    [
        "/pyproject.toml",
        "/package.json",
        "/docker-compose.yml",
        "/.github/workflows/a.yml",
        "/openapi.json",
        "/openapi.yaml",
    ],
)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1, 2",
        "openapi: [",
        '{"openapi": ',
        "a: 2024-99-99",
        "- 1\n- 2",
        '"text"',
        "null",
        "[" * 3_000,
        "{{ template }}",
    ],
)
def test_broken_files_say_nothing(path: str, text: str) -> None:
    """Whatever a file holds, reading it ends without facts and without failing."""
    assert found(path, text) == []
