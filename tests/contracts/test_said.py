"""What somebody said, and what the server or a service was made to say in their place."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import envelope, subjects
from contracts.envelope import Stored
from contracts.events import EVENTS
from contracts.message import ContractError
from contracts.report import ActivityReport
from contracts.subjects import ML_ENGINEER

NOW = datetime(2026, 1, 2, tzinfo=UTC)
TIMER = subjects.timer("t1", "deadline", ML_ENGINEER)
SERVERS_ANSWERS = (
    b'{"stream":"TASKS","seq":7}',
    b'{"stream":"TASKS","seq":7,"duplicate":true}',
    b'{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 3"},"stream":"TASKS","seq":0}',
    b'{"type":"io.nats.jetstream.api.v1.stream_names_response","total":0,"offset":0,"limit":1024,"streams":null}',
    b'{"type":"io.nats.jetstream.api.v1.consumer_info_response","stream_name":"WORK","name":"x","config":{}}',
    b'{"type":"io.nats.micro.v1.ping_response","name":"gateway","id":"x","version":"0.1.0","metadata":{}}',
    b'{"ready":true,"trouble":"","host":"h","pid":1}',
)


def stored(event: str, data: bytes, **headers: str) -> Stored:
    """An event's message."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    subject = subjects.task_event("t1", event, ML_ENGINEER)
    return Stored(stream=subjects.TASKS, seq=7, subject=subject, time=NOW, headers=named, data=data)


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("answer", SERVERS_ANSWERS)
def test_no_answer_of_the_server_is_an_event(event: str, answer: bytes) -> None:
    """Whoever may ask for anything names the subject that the answer comes on: it must mean nothing there."""
    assert envelope.read_event(stored(event, answer)).body is None


@pytest.mark.parametrize("event", EVENTS)
def test_no_answer_to_a_read_is_an_event(event: str) -> None:
    """Whatever it holds: the server's own header tells."""
    read = envelope.read_event(stored(event, b'{"reason":"x","request":"x"}', **{"Nats-Sequence": "3"}))

    assert (read.body, read.problem) == (
        None,
        "the answer to a read, sent here by whoever read: publish the message itself",
    )


@pytest.mark.parametrize(("event", "body"), [("approved", b"{}"), ("cancel-requested", b"{}"), ("redriven", b"{}")])
def test_a_bare_event_without_fields_is_one(event: str, body: bytes) -> None:
    """What a person types."""
    assert envelope.read_event(stored(event, body)).body == EVENTS[event]()


def test_a_bare_report_in_another_spelling_is_one() -> None:
    """The names that other agents give its fields are known too."""
    body = b'{"agent_name":"a","lastActionSummary":"done","status":"success"}'
    report = Stored(stream="REPORTS", seq=1, subject="mesh.report.a", time=NOW, headers={}, data=body)

    assert envelope.decode(report, message=ActivityReport).id == "REPORTS-1"
    assert {"agent_name", "lastActionSummary", "filesModified"} <= ActivityReport.known_names()


def test_fields_of_a_newer_version_alone_are_read_when_an_envelope_says_what_they_are() -> None:
    """What a newer publisher adds is ignored, also when it sends nothing else."""
    event = envelope.read_event(
        stored("approved", b'{"signature":"x"}', **{"ce-dataschema": "urn:mlmesh:Approved:1.4"})
    )

    assert event.body == EVENTS["approved"]()


@pytest.mark.parametrize(
    ("event", "timer", "heard"),
    [
        ("timeout", TIMER, True),
        ("timeout", "mesh.timer.t1.deadline", True),  # of a version before
        ("timeout", subjects.timer("t2", "deadline", ML_ENGINEER), False),
        ("timeout", subjects.timer("t1", "deadline", "other"), False),
        ("timeout", "mesh.task.t1.progressed.other", False),
        ("cancel-requested", TIMER, False),
    ],
)
def test_a_timer_says_timeout_on_its_own_task_alone(event: str, timer: str, heard: bool) -> None:
    """Permissions are for the timer's subject; what it publishes is checked against that."""
    read = envelope.read_event(stored(event, b'{"timer":"deadline","reason":""}', **{"Nats-Scheduler": timer}))

    assert (read.body is not None) == heard


@given(st.sampled_from(["mesh.", "$JS.", "$KV.", "$SRV.", "mesh"]), st.text("abc.", max_size=9))
def test_nobody_answers_on_a_subject_of_the_mesh(prefix: str, rest: str) -> None:
    """Inboxes are elsewhere."""
    assert subjects.may_answer_on(prefix + rest) == (prefix == "mesh" and not rest.startswith("."))


def test_a_bad_schema_is_told_before_anything_else() -> None:
    """An envelope that says another message is refused as that."""
    with pytest.raises(ContractError, match="urn:mlmesh:Working:1"):
        envelope.decode_event(stored("approved", b'{"stream":"x"}', **{"ce-dataschema": "urn:mlmesh:Working:1"}))
