"""Metadata in headers: what is written is read back, what is missing is the same for every reader."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import envelope, subjects
from contracts.envelope import Metadata, Stored
from contracts.events import EVENTS, TaskSubmitted, Working
from contracts.message import ContractError, Message
from tests.contracts.strategies import instances

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
BODY = b'{"request":"predict churn"}'
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

HOSTILE = ["", "größe", "a\nb", "a\r\nNats-Msg-Id: x", "100%", "%41", " padded ", "\t", "🤖", "\x00", "a: b", '"', "\\"]
values = st.text(max_size=30) | st.sampled_from(HOSTILE)
task_ids = st.from_regex(subjects.TASK_ID, fullmatch=True)
traceparents = st.tuples(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1)).map(
    lambda ids: f"00-{ids[0]:032x}-{ids[1]:016x}-01"
)
metadatas = st.builds(
    Metadata,
    id=values.filter(bool),
    type=values.filter(bool),
    source=values.filter(bool),
    time=st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive
    schema=st.just(TaskSubmitted.data_schema()),
    task=task_ids,
    traceparent=traceparents,
    causation=values,
    workspace=values,
    deadline=values,
    begun=st.integers(0, 2**63 - 1),
)


def stored(headers: dict[str, str], *, seq: int = 7, subject: str = "", data: bytes = BODY) -> Stored:
    """A message as TASKS would hold it."""
    subject = subject or subjects.task_event("t1", "submitted", "ml-engineer")
    return Stored(stream=subjects.TASKS, seq=seq, subject=subject, time=NOW, headers=headers, data=data)


def sent(headers: dict[str, str]) -> dict[str, str]:
    """Headers as a client puts them on the wire: values trimmed, line breaks replaced, ASCII for other clients."""
    line_breaks = str.maketrans({"\r": " ", "\n": " "})
    return {name: value.strip().translate(line_breaks).encode("ascii").decode() for name, value in headers.items()}


@given(metadatas)
def test_metadata_comes_back_from_its_headers(metadata: Metadata) -> None:
    """`decode` is the inverse of `encode`."""
    assert envelope.decode(stored(envelope.encode(metadata)), message=TaskSubmitted) == metadata


@given(metadatas)
def test_metadata_survives_the_way_a_client_sends_headers(metadata: Metadata) -> None:
    """Blanks at the ends, line breaks, percent signs and other alphabets are all still there after the wire."""
    assert envelope.decode(stored(sent(envelope.encode(metadata))), message=TaskSubmitted) == metadata


@given(metadatas)
def test_no_value_can_add_a_header(metadata: Metadata) -> None:
    """A value is one line of printable ASCII: a line break in a workspace's name is data, not structure."""
    assert [value for value in envelope.encode(metadata).values() if not re.fullmatch(r"[ -~]*", value)] == []


def test_the_headers_are_cloudevents_binary_mode() -> None:
    """The attributes of CloudEvents 1.0 as `ce-` headers, with the message id that the server deduplicates by."""
    metadata = Metadata(
        id="01J/3/1",
        type="mlmesh.task.submitted",
        source="urn:mlmesh:gateway",
        time=NOW,
        schema="urn:mlmesh:TaskSubmitted:1",
        task="t1",
        traceparent=TRACE,
        causation="01H",
        workspace="/shop",
        deadline="2026-03-05T00:00:00Z",
        begun=7,
    )

    assert envelope.encode(metadata) == {
        "Nats-Msg-Id": "01J/3/1",
        "ce-specversion": "1.0",
        "ce-id": "01J/3/1",
        "ce-type": "mlmesh.task.submitted",
        "ce-source": "urn:mlmesh:gateway",
        "ce-time": "2026-03-04T05:06:07Z",
        "ce-dataschema": "urn:mlmesh:TaskSubmitted:1",
        "content-type": "application/json",
        "ce-subject": "t1",
        "mesh-correlation-id": "t1",
        "mesh-causation-id": "01H",
        "traceparent": TRACE,
        "mesh-workspace": "/shop",
        "mesh-deadline": "2026-03-05T00:00:00Z",
        "mesh-begun": "7",
    }


def test_a_bare_message_means_the_same_to_every_reader() -> None:
    """Without headers the id is the stored message's, the time the server's and the trace the task's."""
    bare = stored({})

    first, second = envelope.decode_event(bare), envelope.decode_event(replace(bare, headers={}))

    assert first == second
    assert first.metadata == Metadata(
        id="TASKS-7",
        type="",
        source="",
        time=NOW,
        schema="urn:mlmesh:TaskSubmitted:1",
        task="t1",
        traceparent=f"00-{envelope.trace_id('t1')}-{envelope.root_span_id('t1')}-01",
    )


@given(task_ids, st.integers(1, 2**40), st.integers(1, 2**40))
def test_every_bare_event_of_a_task_is_in_one_trace(task: str, one: int, other: int) -> None:
    """Readers who see different events of a task still derive the same trace."""
    subject = subjects.task_event(task, "submitted", "a")
    first = envelope.decode_event(stored({}, seq=one, subject=subject))
    second = envelope.decode_event(stored({}, seq=other, subject=subject))

    assert first.metadata.traceparent == second.metadata.traceparent
    assert (first.metadata.id == second.metadata.id) == (one == other)


@pytest.mark.parametrize("spelling", ["Traceparent", "TRACEPARENT", "traceparent"])
def test_header_names_are_read_in_any_case(spelling: str) -> None:
    """Clients of other languages capitalise names; the server keeps what they sent."""
    assert envelope.decode_event(stored({spelling: TRACE})).metadata.traceparent == TRACE


@pytest.mark.parametrize(
    "header",
    ["", "garbage", TRACE.upper(), TRACE[:-1], f"00-{'0' * 32}-b7ad6b7169203331-01", f"00-{'a' * 32}-{'0' * 16}-01"],
)
def test_an_invalid_traceparent_is_replaced_by_the_tasks_own(header: str) -> None:
    """W3C Trace Context: an id of zeros is invalid, and what is invalid is treated as absent."""
    derived = f"00-{envelope.trace_id('t1')}-{envelope.root_span_id('t1')}-01"

    assert envelope.traceparent(header, "t1") == derived


@pytest.mark.parametrize("time", ["yesterday", "2026-13-45", ""])
def test_a_time_that_is_none_is_the_servers(time: str) -> None:
    """The time of an event never depends on the reader's clock."""
    assert envelope.decode_event(stored({"ce-time": time})).metadata.time == NOW


@pytest.mark.parametrize("minor", ["", ".0", ".7", ".7.2"])
def test_a_minor_version_does_not_matter(minor: str) -> None:
    """What a minor version adds is ignored like any unknown field."""
    event = envelope.decode_event(stored({"ce-dataschema": f"urn:mlmesh:TaskSubmitted:1{minor}"}))

    assert event.body == TaskSubmitted(request="predict churn")


@pytest.mark.parametrize("schema", ["urn:mlmesh:TaskSubmitted:2", "urn:mlmesh:TaskSubmitted:99.1"])
def test_an_unknown_major_version_is_refused_and_says_what_to_do(schema: str) -> None:
    """A reader that does not know a major version cannot know what it means."""
    with pytest.raises(ContractError, match="upgrade the reader"):
        envelope.decode_event(stored({"ce-dataschema": schema}))


class Moved(Message):
    """A message whose second version is current."""

    major = 2


@pytest.mark.parametrize(("major", "accepted"), [(0, False), (1, True), (2, True), (3, False)])
def test_a_reader_takes_its_own_major_version_and_the_one_before(major: int, accepted: bool) -> None:
    """N and N-1: publishers and readers are upgraded one after the other."""
    message = stored({"ce-dataschema": f"urn:mlmesh:Moved:{major}"})
    try:
        taken = envelope.decode(message, message=Moved).schema == f"urn:mlmesh:Moved:{major}"
    except ContractError:
        taken = False

    assert taken == accepted


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"ce-specversion": "0.3"}, "ce-specversion"),
        ({"ce-dataschema": "urn:mlmesh:Working:1"}, "urn:mlmesh:Working:1"),
        ({"ce-dataschema": "https://example.org/schema"}, "ce-dataschema"),
    ],
)
def test_headers_that_contradict_the_subject_are_refused(headers: dict[str, str], reason: str) -> None:
    """A message cannot be one thing by its subject and another by its headers."""
    with pytest.raises(ContractError, match=reason):
        envelope.decode_event(stored(headers))


def test_an_unknown_event_is_refused_and_the_known_ones_are_named() -> None:
    """The subject decides what a body is; a name nobody knows is a dead letter."""
    with pytest.raises(ContractError, match=r"'exploded'; known are submitted, working"):
        envelope.decode_event(stored({}, subject="mesh.task.t1.exploded.a"))


@given(st.sampled_from(sorted(EVENTS)).flatmap(lambda event: st.tuples(st.just(event), instances(EVENTS[event]))))
def test_every_event_is_read_by_its_subject(sent_event: tuple[str, Message]) -> None:
    """Event, agent, sequence, metadata and body arrive together."""
    name, body = sent_event
    event = envelope.decode_event(
        stored({}, seq=9, subject=subjects.task_event("t1", name, "ml.engineer"), data=body.to_bytes())
    )

    assert (event.seq, event.event, event.agent, event.body) == (9, name, "ml.engineer", body)


@pytest.mark.parametrize(
    ("subject", "data"),
    [
        ("mesh.task.t1.working.a", b"{}"),
        ("mesh.task.t1.working.a", b"\xff"),
        ("mesh.task.t1.exploded.a", b"{}"),
        ("mesh.task.t1", b"{}"),
        ("mesh", b"{}"),
    ],
)
def test_a_message_that_cannot_be_read_keeps_its_place_in_the_history(subject: str, data: bytes) -> None:
    """The fold goes over it: the sequence moves on, the problem is told, nothing else happens."""
    event = envelope.read_event(stored({}, seq=3, subject=subject, data=data))

    assert (event.seq, event.body, bool(event.problem)) == (3, None, True)


def test_reading_a_good_message_has_no_problem() -> None:
    """`read_event` differs from `decode_event` only where that would raise."""
    working = Working(executor="host/1", event_seq=1, work_seq=1)
    good = stored({}, subject=subjects.task_event("t1", "working", "a"), data=working.to_bytes())

    assert envelope.read_event(good) == envelope.decode_event(good)


@pytest.mark.parametrize(
    ("subject", "headers", "task"),
    [
        ("mesh.task.t1.exploded.a", {}, "t1"),
        ("mesh.task.t1", {}, ""),
        ("mesh.work.a.t1", {}, "t1"),
        ("mesh.report.a", {"ce-subject": "t1"}, "t1"),
        ("mesh.report.a", {}, ""),
        ("other.task.t1.x", {}, ""),
    ],
)
def test_a_message_that_cannot_be_read_still_tells_its_task_and_trace(
    subject: str, headers: dict[str, str], task: str
) -> None:
    """For logs and dead letters: the publisher's trace, else the one that anybody derives from the task."""
    own = f"00-{envelope.trace_id(task)}-{envelope.root_span_id(task)}-01" if task else ""
    given = {**headers, "Traceparent": TRACE}

    assert envelope.concerns(stored(headers, subject=subject, data=b"?")) == (task, own)
    assert envelope.concerns(stored(given, subject=subject, data=b"?")) == (task, TRACE if task else "")


@given(st.text(max_size=80) | traceparents)
def test_a_traceparent_is_split_exactly_when_it_is_valid(header: str) -> None:
    """Either both ids or nothing."""
    parts = envelope.split_traceparent(header)

    assert parts is None or header == f"00-{parts[0]}-{parts[1]}-{header[-2:]}"
