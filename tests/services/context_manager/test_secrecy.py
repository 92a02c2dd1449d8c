"""Secrets are never read, never stored, never told."""

from pathlib import Path

import pytest

from services.context_manager.knowledge import KnowledgeBase
from services.context_manager.reading import Form, read
from services.context_manager.secrecy import is_secret, names_only, without_secrets
from tests.services.context_manager.workspaces import ask, stored_bytes, write

PASSWORD = "hunter2-Correct-Horse"  # noqa: S105 - made up
KEY_ID = "AKIA" + "IOSFODNN7EXAMPL3"
TOKEN = "ghp_" + "x9Y8" * 9
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow" + "q" * 60 + "\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    "path",
    [
        "/.env", "/.env.production", "/deploy/prod.env", "/.envrc", "/tls/server.pem", "/tls/server.key", "/id_rsa",
        "/home/.ssh/config", "/.aws/credentials", "/.aws/config", "/credentials.json", "/credentials.yml", "/.netrc",
        "/.npmrc", "/.pypirc", "/.git-credentials", "/store.p12", "/store.jks", "/client_secret_123.json",
        "/service-account.json", "/secrets.yaml", "/terraform.tfstate", "/prod.tfvars", "/kubeconfig",
        "/.docker/config.json",
    ],
)  # fmt: skip
def test_files_made_to_hold_secrets_are_never_opened(path: str) -> None:
    """They are known by their names: a file that is not even there counts as read."""
    assert is_secret(path)
    assert read(Path("/not/there"), path, max_bytes=1).form is Form.SECRET


@pytest.mark.parametrize(
    "path",
    [
        "/.env.example",
        "/env.py",
        "/src/keys.py",
        "/docs/credentials.md",
        "/secrets.py",
        "/environment.yml",
        "/tokens.ts",
        "/key.md",
    ],
)
def test_files_about_secrets_are_read(path: str) -> None:
    """Code and documents of such names are the project's own."""
    assert not is_secret(path)


@pytest.mark.parametrize(
    "path", ["/.env.example", "/.env.sample", "/env.template", "/.env.local.example", "/example.env"]
)
def test_of_examples_of_settings_only_the_names_are_read(path: str) -> None:
    """People leave real values in them."""
    assert names_only(path)


def test_lines_stay_where_they_are() -> None:
    """A blanked key keeps its number of lines, so that sources point at the right one."""
    text = f"first\n{PEM}\nlast"
    blanked = without_secrets("/notes.md", text)
    assert blanked.split("\n") == ["first", "[redacted private key]", "", "", "last"]


@pytest.mark.parametrize(
    ("path", "line", "kept"),
    [
        ("/compose.yml", f"POSTGRES_PASSWORD: {PASSWORD}", "POSTGRES_PASSWORD"),
        ("/app.json", f'{{"api_key": "{PASSWORD}"}}', "api_key"),
        ("/app.toml", f"client_secret = '{PASSWORD}'", "client_secret"),
        ("/app.ini", f"token={PASSWORD}", "token"),
        ("/notes.md", f"postgres://shop:{PASSWORD}@db/shop", "postgres://shop:"),
        ("/main.py", f'PASSWORD = "{PASSWORD}"', "PASSWORD"),
    ],
)
def test_values_that_look_like_secrets_are_blanked(path: str, line: str, kept: str) -> None:
    """The name of the setting stays, its value goes."""
    blanked = without_secrets(path, line)
    assert PASSWORD not in blanked
    assert kept in blanked


def test_settings_stay_documents_of_their_kind() -> None:
    """A manifest with a blanked value is still read for its facts."""
    assert without_secrets("/a.json", '{"token": "abc", "x": "1"}') == '{"token": "[redacted value]", "x": "1"}'
    assert without_secrets("/a.yml", "password: ${PASSWORD}\nuser: me") == "password: ${PASSWORD}\nuser: me"


def test_no_secret_reaches_the_database_or_an_answer(memory: KnowledgeBase, workspace: Path) -> None:
    """Every place where people leave secrets, and every byte that is stored."""
    write(
        workspace,
        {
            ".env": f"DB_PASSWORD={PASSWORD}\n",
            ".env.example": f"# copy me\nDB_PASSWORD={PASSWORD}\nexport POSTGRES_HOST=localhost-{TOKEN}\n",
            "server.pem": PEM,
            "README.md": f"# Shop\n\nShop sells with the token {TOKEN} every day.\n\n{PEM}\n",
            "settings.py": f'"""Settings with {KEY_ID}."""\nAPI_KEY = "{PASSWORD}"\n',
            "compose.yml": f"services:\n  db:\n    image: postgres:16\n    environment: {{DB_PASSWORD: {PASSWORD}}}\n",
            "notebook.ipynb": f'{{"cells": [{{"cell_type": "code", "source": ["x = 1"], "outputs": ["{TOKEN}"]}}]}}',
            "data/customers.csv": f"name,token\nAda,{TOKEN}\n",
            "events.jsonl": f'{{"token": "{TOKEN}"}}\n',
        },
    )
    told = [
        ask(memory, "the database password, the token, the key in .env or settings.py", kind).to_bytes()
        for kind in ("get_task_briefing", "get_file_location", "get_directory_purpose", "get_security_context")
    ]
    stored = stored_bytes(memory)
    for secret in (TOKEN, KEY_ID, "q" * 60, PASSWORD):
        assert secret.encode() not in stored, secret
        assert all(secret.encode() not in answer for answer in told), secret
    assert memory.purposes()["/.env"] == "file, not read: made to hold secrets"
    assert memory.purposes()["/.env.example"] == "names of settings: DB_PASSWORD, POSTGRES_HOST"
    assert [fact.value for fact in memory.facts() if fact.field == "database"] == ["postgresql 16", "postgresql"]
