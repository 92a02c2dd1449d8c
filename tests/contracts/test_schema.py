"""The published files: they say what the code says, and readers of other languages can rely on them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from contracts import asyncapi, channels, subjects
from contracts.channels import CHANNELS
from contracts.events import EVENTS
from contracts.message import ContractError, Message
from tests.contracts.strategies import instances, leaves

SCHEMAS = {model: Draft202012Validator(asyncapi.message_schema(model)) for model in asyncapi.messages()}
PARTIES = {*subjects.SERVICES, channels.CLIENT, channels.OPERATOR, channels.SERVER, channels.SYSTEM}


def run_check(directory: Path, seed: str = "0") -> tuple[int, str]:
    """Exit code and message of the command that CI runs."""
    done = subprocess.run(
        [sys.executable, "-m", "contracts.asyncapi", "--check", "--directory", str(directory)],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_the_checked_in_files_are_what_the_code_says(seed: str) -> None:
    """In every process the same bytes: nothing depends on the order of a set."""
    assert run_check(asyncapi.SCHEMA_DIR, seed) == (0, "")


def test_a_file_that_is_out_of_date_is_named(tmp_path: Path) -> None:
    """Changed, missing and left-over files each fail the check, and it says what to run."""
    copy = tmp_path / "schema"
    shutil.copytree(asyncapi.SCHEMA_DIR, copy)
    changed = copy / "Briefing.json"
    changed.write_text(changed.read_text(encoding="utf-8").replace("not_found", "missing"), encoding="utf-8")
    (copy / "Working.json").unlink()
    (copy / "Forgotten.json").write_text("{}", encoding="utf-8")

    assert run_check(copy) == (
        1,
        "out of date: Briefing.json, Forgotten.json, Working.json\nrun: python -m contracts.asyncapi\n",
    )


def test_writing_makes_the_directory_what_the_code_says(tmp_path: Path) -> None:
    """Whatever was there before, afterwards the check is content."""
    (tmp_path / "Forgotten.json").write_text("{}", encoding="utf-8")

    asyncapi.main(["--directory", str(tmp_path)])

    assert asyncapi.stale(tmp_path) == []


@pytest.mark.parametrize("model", leaves(), ids=lambda model: model.__name__)
def test_every_message_has_a_valid_schema(model: type[Message]) -> None:
    """JSON Schema 2020-12, named by the same URN that travels in `ce-dataschema`."""
    published = json.loads((asyncapi.SCHEMA_DIR / f"{model.__name__}.json").read_bytes())
    Draft202012Validator.check_schema(published)

    assert published["$id"] == model.data_schema()


@given(st.sampled_from(list(SCHEMAS)).flatmap(instances))
def test_what_we_write_is_valid_by_the_published_schema(message: Message) -> None:
    """Nothing travels that its schema forbids."""
    assert [error.message for error in SCHEMAS[type(message)].iter_errors(json.loads(message.to_bytes()))] == []


@pytest.mark.parametrize(
    "body",
    [
        {"reporting_agent": "a", "summary": "b", "added_later": 1},
        {"agent_name": "a", "lastActionSummary": "b", "filesModified": []},
        {"reporting_agent": "a", "lastActionSummary": "b"},
    ],
)
def test_every_spelling_of_a_report_is_valid(body: dict[str, Any]) -> None:
    """What the reader takes, the schema takes: both spellings, and fields nobody knows yet."""
    report = next(model for model in SCHEMAS if model.__name__ == "ActivityReport")

    assert (SCHEMAS[report].is_valid(body), report.from_bytes(json.dumps(body).encode()) is not None) == (True, True)


@pytest.mark.parametrize("body", [{}, {"reporting_agent": "a"}, {"summary": "b"}, {"agent_name": "", "summary": "b"}])
def test_a_report_that_the_reader_refuses_is_invalid(body: dict[str, Any]) -> None:
    """Two spellings do not make a field optional."""
    report = next(model for model in SCHEMAS if model.__name__ == "ActivityReport")
    with pytest.raises(ContractError):
        report.from_bytes(json.dumps(body).encode())

    assert not SCHEMAS[report].is_valid(body)


def test_answers_as_a_map_are_valid() -> None:
    """The short form that people write is part of the contract, so the schema says so."""
    body = {"answers": {"nfr.latency": "20 ms"}}

    assert SCHEMAS[EVENTS["answered"]].is_valid(body)


def _objects(node: Any) -> list[dict[str, Any]]:
    """Every JSON object at any depth."""
    if isinstance(node, dict):
        return [node, *(inner for value in node.values() for inner in _objects(value))]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(node, list):
        return [inner for value in node for inner in _objects(value)]  # pyright: ignore[reportUnknownVariableType]
    return []


@pytest.mark.parametrize("name", sorted(asyncapi.files()))
def test_published_schemas_are_open(name: str) -> None:
    """A field that a newer publisher adds is no error by an older schema."""
    content = json.loads(asyncapi.files()[name])

    assert [part for part in _objects(content) if part.get("additionalProperties") is False] == []


def _resolved(document: dict[str, Any], reference: str) -> Any:
    target: Any = document
    for part in reference.removeprefix("#/").split("/"):
        target = target[part]
    return target


def test_every_reference_of_the_document_leads_somewhere() -> None:
    """The document stands on its own: no reference leaves it or ends nowhere."""
    document = asyncapi.document()
    references = [part["$ref"] for part in _objects(document) if isinstance(part.get("$ref"), str)]

    assert [reference for reference in references if _resolved(document, reference) is None] == []


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_of_a_task_has_a_channel(event: str) -> None:
    """The table of channels knows each event by the subject that the builder makes, and its body."""
    address = f"mesh.task.{{task}}.{event}.{{agent}}"

    assert [channel.messages for channel in CHANNELS if channel.address == address] == [(EVENTS[event],)]


def test_channels_name_known_streams_parties_and_parameters() -> None:
    """No name in the table is one that nothing else knows."""
    streams = {channel.stream for channel in CHANNELS} - {""}
    parties = {party for channel in CHANNELS for party in (*channel.senders, *channel.receivers)}
    parameters = {part[1:-1] for channel in CHANNELS for part in channel.address.split(".") if part.startswith("{")}

    assert (streams - set(subjects.STREAMS), parties, parameters) == (set(), PARTIES, set(channels.PARAMETERS))


def test_requests_say_what_they_are_answered_with() -> None:
    """Both sides of request and reply are in the document, and the responders share a queue."""
    operations = asyncapi.document()["operations"]
    briefing = [{"$ref": "#/channels/inbox/messages/Briefing"}]

    assert operations["ml-engineer.send.get-task-briefing"]["reply"]["messages"] == briefing
    assert operations["context-manager.receive.get-task-briefing"]["reply"]["messages"] == briefing
    assert operations["context-manager.receive.get-task-briefing"]["bindings"]["nats"]["queue"] == "context-manager"
