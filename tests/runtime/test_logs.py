"""What a log line holds, and what it must not hold."""

import io
import json
from typing import Any, cast

import structlog

from services._runtime import telemetry

KEY = "sk-ant-" + "api03-" + "a1B2c3D4e5F6g7H8j9K0"


def logged() -> dict[str, object]:
    """The line about a call that failed with a secret in its error, its cause, and its variables."""
    target = io.StringIO()
    telemetry.configure_logs("info", target)
    try:
        fail(password="open-sesame")  # noqa: S106 - it must not be told
    except RuntimeError:
        structlog.get_logger().exception("call.failed", headers={"authorization": f"Bearer {KEY}"}, tried=[KEY, 3])
    return json.loads(target.getvalue())


def fail(*, password: str) -> None:
    """An error with a cause."""
    try:
        refuse()
    except ValueError as error:
        raise RuntimeError(f"no answer for {KEY}, {len(password)} letters") from error


def refuse() -> None:
    """What it was caused by."""
    raise ValueError(f"{KEY} is refused")


def test_no_secret_is_logged_however_deep_it_stands() -> None:
    """Error texts of a whole chain, nested facts; variables of frames are not logged at all."""
    text = json.dumps(logged())
    assert KEY not in text
    assert "open-sesame" not in text
    assert text.count("[redacted anthropic key]") >= 3


def test_a_traceback_says_what_failed_and_where() -> None:
    """As data: types, texts and frames."""
    chain = cast("list[Any]", logged()["exception"])
    assert [error["exc_type"] for error in chain] == ["RuntimeError", "ValueError"]
    assert [frame["name"] for frame in chain[0]["frames"]] == ["logged", "fail"]
