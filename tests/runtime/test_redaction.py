"""Secrets out of text."""

import time

import pytest

from services._runtime.redaction import redact, secrets_in

LETTERS = "a1B2c3D4e5F6g7H8j9K0"

SECRETS = {
    "anthropic key": "sk-ant-" + "api03-" + LETTERS * 2,
    "openai key": "sk-" + "proj-" + LETTERS * 2,
    "aws key id": "AKIA" + "IOSFODNN7EXAMPLE",
    "github token": "ghp_" + LETTERS * 2,
    "gitlab token": "glpat-" + LETTERS,
    "slack token": "xoxb-" + LETTERS,
    "google key": "AIza" + (LETTERS * 2)[:35],
    "payment key": "sk_live_" + LETTERS,
    "model hub token": "hf_" + LETTERS * 2,
    "package token": "npm_" + (LETTERS * 2)[:36],
    "nkey seed": "SU" + "A" * 56,
    "json web token": "eyJ" + LETTERS + ".eyJ" + LETTERS + "." + LETTERS,
    "private key": "-----BEGIN RSA " + "PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----",
}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_by_its_form_is_blanked_wherever_it_stands(kind: str) -> None:
    """The text around it stays, and redacting again changes nothing."""
    text = f"before {SECRETS[kind]} after"
    clean = redact(text)
    assert clean == f"before [redacted {kind}] after"
    assert secrets_in(text) == (kind,)
    assert (redact(clean), secrets_in(clean)) == (clean, ())


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("postgres://app:pa55w0rd@db:5432/shop", "postgres://app:[redacted url password]@db:5432/shop"),
        ("Authorization: Bearer " + LETTERS, "Authorization: Bearer [redacted authorization]"),
        ('db_password: "correcthorse"', 'db_password: "[redacted value]"'),
        ("export API_TOKEN=hunter22\nPORT=80", "export API_TOKEN=[redacted value]\nPORT=80"),
        ("secret_key = " + LETTERS, "secret_key = [redacted value]"),
    ],
)
def test_a_secret_by_its_place_is_blanked_and_its_name_stays(text: str, clean: str) -> None:
    """One sees that something was configured, not what."""
    assert redact(text) == clean
    assert redact(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        "DB_PASSWORD=${DB_PASSWORD}",
        "postgres://app:${DB_PASSWORD}@db",
        "API_TOKEN=\nPORT=80",
        'api_key = os.environ["API_KEY"]',
        "token = tokens[0]",
        "max_tokens=100000",
        "primary_key = True",
        "the password is stored hashed",
        "a risk-adjusted-measure-of-performance",
        "/ml/telco_churn/docs/rollback.md at 12:30, roc_auc 0.8476 (0.829 to 0.866)",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    """Placeholders, names, code, paths and numbers are left as they are."""
    assert redact(text) == text
    assert secrets_in(text) == ()


def test_a_quarter_megabyte_takes_milliseconds() -> None:
    """Redaction stands at every boundary, so it must not be felt: linear, and far under a second of work."""
    text = "SOME_KEY: value of a token, and more words = than one would like;\n" * 4_000
    started = time.process_time()
    redact(text)
    assert time.process_time() - started < 1
