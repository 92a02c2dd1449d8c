"""Dead letters against a real server: given back to their readers, discarded, and never lost in between."""

import asyncio
import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from contracts import subjects
from contracts.dead import DeadLetter, LetterSettled
from contracts.envelope import MSG_ID, Stored
from contracts.events import Completed, Failed, Redriven, TaskSubmitted
from services._runtime.bus import Bus
from services._runtime.publisher import About, Publisher, Sent
from services._runtime.settings import Settings
from services._runtime.worker import bury
from services.gateway import dead, requests
from services.gateway.commands.dead import decoded, plain
from services.gateway.dead import Filter, Letter, Unredrivable
from tests.following import history

SUBMITTED = TaskSubmitted(request="predict churn")


async def stored_at(bus: Bus, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> Stored:
    """A message as its stream holds it."""
    ack = await bus.publish(subject, body, {MSG_ID: f"{subject}/{len(body)}", **(headers or {})})
    stored = await bus.get(ack.stream, ack.seq)
    assert stored is not None
    return stored


async def buried(publisher: Publisher, stored: Stored, *, durable: str = "gateway", reason: str = "no") -> Letter:
    """The letter about a message that was refused."""
    await bury(publisher, stored, durable=durable, reason=reason, deliveries=1)
    return (await standing(publisher.bus))[-1]


async def standing(bus: Bus, wanted: Filter | None = None) -> list[Letter]:
    """Letters that nobody has settled."""
    return [letter async for letter in dead.letters(bus, wanted or Filter())]


async def records(bus: Bus) -> list[LetterSettled]:
    """What became of the others."""
    return [record async for _, record in dead.records(bus)]


async def messages(bus: Bus, stream: str, subject: str) -> list[Stored]:
    """What a stream holds on a subject."""
    return await bus.read(stream, subject, 1)


async def test_a_message_goes_back_with_its_identity_and_a_new_message_id(publisher: Publisher) -> None:
    """Same body, same ce-id, same trace; the cause is the letter, and a header says that it is a redrive."""
    bus, trace = publisher.bus, f"00-{'a' * 32}-{'b' * 16}-01"
    headers = {"ce-id": "e-1", "traceparent": trace, "mesh-causation-id": "older", "extra": "kept"}
    stored = await stored_at(bus, "mesh.task.t1.answered.ml-engineer", b"{nope", headers)
    letter = await buried(publisher, stored)
    done = await dead.redrive(publisher, letter)
    first, again = await messages(bus, subjects.TASKS, "mesh.task.t1.answered.ml-engineer")
    assert (done.how, done.message_id, again.data) == ("published", f"redrive-{letter.seq}-1", first.data)
    assert again.headers == {
        "ce-id": "e-1",
        "traceparent": trace,
        "mesh-causation-id": f"dlq-TASKS-{stored.seq}",
        "extra": "kept",
        "Nats-Msg-Id": f"redrive-{letter.seq}-1",
        "mesh-redrive": "1",
    }
    assert await standing(bus) == []


async def test_a_message_without_an_envelope_keeps_the_id_that_its_readers_gave_it(publisher: Publisher) -> None:
    """`<stream>-<sequence>` is derived from where it stood first: told now, it stays the same."""
    await publisher.bus.client.request("mesh.report.agent", b"{nope", timeout=5)
    [stored] = await messages(publisher.bus, subjects.REPORTS, "mesh.report.agent")
    await dead.redrive(publisher, await buried(publisher, stored, durable="context-manager"))
    [_, again] = await messages(publisher.bus, subjects.REPORTS, "mesh.report.agent")
    assert again.headers["ce-id"] == "REPORTS-1"


async def test_a_message_that_is_refused_again_is_counted(publisher: Publisher) -> None:
    """The second redrive has another id: the server would drop the same one."""
    stored = await stored_at(publisher.bus, "mesh.system.churn.trained", b"{}")
    await dead.redrive(publisher, await buried(publisher, stored, durable="ml-engineer-systems"))
    again = (await messages(publisher.bus, subjects.SYSTEMS, "mesh.system.churn.trained"))[-1]
    letter = await buried(publisher, again, durable="ml-engineer-systems")
    done = await dead.redrive(publisher, letter)
    last = (await messages(publisher.bus, subjects.SYSTEMS, "mesh.system.churn.trained"))[-1]
    assert (done.message_id, last.headers["mesh-redrive"]) == (f"redrive-{letter.seq}-2", "2")


async def test_a_timer_goes_back_as_a_timer(publisher: Publisher) -> None:
    """Without the server's headers it would be kept for ever: of those a redrive keeps what makes a schedule."""
    headers = {"Nats-Schedule": "@at 2040-01-01T00:00:00Z", "Nats-Schedule-Target": "mesh.due.t2.answers.ml-engineer"}
    stored = await stored_at(publisher.bus, "mesh.timer.t1.answers.ml-engineer", b"{}", headers)
    await dead.redrive(publisher, await buried(publisher, stored))
    again = (await messages(publisher.bus, subjects.TIMERS, subjects.ALL_TIMERS))[-1]
    assert {name: again.headers[name] for name in headers} == headers


async def test_what_was_settled_stays_on_record(publisher: Publisher) -> None:
    """Why it was refused, what became of it; the letter itself is gone, and nobody counts it any more."""
    stored = await stored_at(publisher.bus, "mesh.report.agent", b"{nope")
    letter = await buried(publisher, stored, reason="not a report")
    assert await requests.dead_letters(publisher.bus) == 1
    await dead.discard(publisher, letter)
    assert (await standing(publisher.bus), await requests.dead_letters(publisher.bus)) == ([], 0)
    assert await records(publisher.bus) == [
        LetterSettled(
            how="discarded",
            letter_id="dlq-REPORTS-1",
            letter_seq=letter.seq,
            reason="not a report",
            stream="REPORTS",
            stream_seq=1,
            subject="mesh.report.agent",
        )
    ]


class KilledError(Exception):
    """Here the process ends."""


@dataclass(frozen=True, slots=True)
class KilledBeforeTheRecord(Publisher):
    """What is redriven is stored, the record is not."""

    async def store(self, *_: object, **__: object) -> Sent:
        raise KilledError


class KilledBeforeTheRemoval(Bus):
    """The record is stored, the letter still stands."""

    async def delete(self, stream: str, seq: int) -> None:
        raise KilledError(stream, seq)


@pytest.mark.parametrize("kind", ["before the record", "before the removal"])
async def test_a_redrive_that_was_cut_off_is_finished_by_the_next(
    publisher: Publisher, settings: Settings, kind: str
) -> None:
    """The message is stored once, the letter is settled once, and at no moment was either missing."""
    stored = await stored_at(publisher.bus, "mesh.task.t1.answered.ml-engineer", b"{nope")
    letter = await buried(publisher, stored)
    bus = await KilledBeforeTheRemoval.connect(settings, "test")
    killed = {
        "before the record": KilledBeforeTheRecord(publisher.bus, publisher.telemetry),
        "before the removal": replace(publisher, bus=bus),
    }
    with pytest.raises(KilledError):
        await dead.redrive(killed[kind], letter)
    await bus.close()
    assert [found.seq for found in await standing(publisher.bus)] == [letter.seq]
    await dead.redrive(publisher, letter)
    found = await messages(publisher.bus, subjects.TASKS, "mesh.task.t1.answered.ml-engineer")
    assert [message.headers[MSG_ID] for message in found[1:]] == [f"redrive-{letter.seq}-1"]
    assert (await standing(publisher.bus), len(await records(publisher.bus))) == ([], 1)


async def test_work_of_a_task_that_is_not_over_is_rung_once_however_often_it_is_tried(publisher: Publisher) -> None:
    """By compare-and-set, with the letter's id: the executor that is woken takes the task over."""
    await publisher.event("submitted", "ml-engineer", SUBMITTED, About(task="t1"))
    letter = await work_letter(publisher, "t1")
    done = await dead.redrive(publisher, letter)
    await publisher.bus.delete(subjects.DEAD, (await messages(publisher.bus, subjects.DEAD, subjects.ALL_DEAD))[-1].seq)
    again = await dead.redrive(publisher, letter)
    events = await history(publisher.bus, "t1")
    assert (done.how, again.how) == ("rung", "rung")
    assert [event.body for event in events[1:]] == [Redriven(reason="a dead letter was redriven", dead_id=letter.id)]


async def work_letter(publisher: Publisher, task: str, agent: str = "ml-engineer") -> Letter:
    """The letter about work that was tried in vain."""
    stored = Stored(
        stream=subjects.WORK,
        seq=9,
        subject=subjects.work_item(agent, task),
        time=publisher.clock(),
        headers={"Nats-Stream-Source": "TASKS 1 x", "ce-dataschema": "urn:mlmesh:QuestionsAnswered:1"},
        data=b'{"answers":{"nfr.latency":"20 ms"}}',
    )
    return await buried(publisher, stored, durable=agent)


async def test_work_of_a_task_that_is_over_goes_on_as_a_new_task(publisher: Publisher) -> None:
    """Events after the final one change nothing: the request is submitted anew, and says what it comes from."""
    await publisher.event("submitted", "ml-engineer", SUBMITTED, About(task="t1"))
    await publisher.event("failed", "ml-engineer", Failed(reason="tried 5 times"), About(task="t1"))
    letter = await work_letter(publisher, "t1")
    done = await dead.redrive(publisher, letter)
    [event] = await history(publisher.bus, done.task)  # of the request itself, whatever event it was that rang
    assert (done.how, event.event, event.body) == (
        "submitted",
        "submitted",
        SUBMITTED.model_copy(update={"parent": "t1"}),
    )
    assert done.task.startswith("t1-")


async def test_a_submission_whose_task_is_over_is_submitted_once_under_a_new_id(publisher: Publisher) -> None:
    """However often it is tried; what a newer publisher wrote into it stays."""
    body = b'{"request":"predict","of_tomorrow":[1]}'
    stored = await stored_at(
        publisher.bus, "mesh.task.t1.submitted.ml-engineer", body, {"ce-dataschema": "urn:mlmesh:TaskSubmitted:9"}
    )
    await publisher.event("failed", "ml-engineer", Failed(reason="unknown major version 9"), About(task="t1"))
    letter = await buried(publisher, stored)
    done = await dead.redrive(publisher, letter)
    await publisher.bus.delete(subjects.DEAD, (await messages(publisher.bus, subjects.DEAD, subjects.ALL_DEAD))[-1].seq)
    assert (await dead.redrive(publisher, letter)).task == done.task
    found = await messages(publisher.bus, subjects.TASKS, f"mesh.task.{done.task}.>")
    assert [(json.loads(message.data), message.headers["ce-subject"]) for message in found] == [
        ({"request": "predict", "of_tomorrow": [1], "parent": "t1"}, done.task)
    ]


async def test_a_cut_body_is_taken_from_its_stream(publisher: Publisher, settings: Settings) -> None:
    """A letter keeps so much of a body; the message itself is whole."""
    body = b'{"reporting_agent":"' + b"x" * settings.dead_body_bytes + b'"'
    stored = await stored_at(publisher.bus, "mesh.report.agent", body)
    await dead.redrive(publisher, await buried(publisher, stored))
    assert [message.data for message in await messages(publisher.bus, subjects.REPORTS, "mesh.report.agent")] == [
        body,
        body,
    ]


async def test_a_claim_check_is_redeemed_before_it_goes_back(publisher: Publisher, settings: Settings) -> None:
    """The header speaks of the body as it was sent: it is made anew for the body that is sent now."""
    body = b'{"reporting_agent":"' + b"x" * settings.claim_check_bytes + b'"'
    await stored_at(publisher.bus, "mesh.report.agent", body)
    [raw] = [page async for page in publisher.bus.pages(subjects.REPORTS, subjects.ALL_REPORTS)]
    await dead.redrive(publisher, await buried(publisher, raw[0]))
    assert [message.data for message in await messages(publisher.bus, subjects.REPORTS, "mesh.report.agent")] == [
        body,
        body,
    ]


def letter_of(**given: object) -> DeadLetter:
    """A letter that somebody wrote."""
    told = {"reason": "no", "stream": "TASKS", "stream_seq": 99, "subject": "mesh.task.t1.answered.ml-engineer"}
    return DeadLetter.model_validate({**told, "durable": "gateway", **given})


HOPELESS: dict[str, dict[str, object]] = {
    "'$JS.API.STREAM.DELETE.TASKS' is no subject of TASKS": {"subject": "$JS.API.STREAM.DELETE.TASKS"},
    "'mesh.task.>' is no subject of TASKS": {"subject": "mesh.task.>"},
    "PUB x 0' is no subject of TASKS": {"subject": "mesh.task.t1.submitted.a\r\nPUB x 0"},
    "'mesh.report.agent' is no subject of TASKS": {"subject": "mesh.report.agent"},
    "are not published by hand": {"stream": "ADVISORIES", "subject": "$JS.EVENT.ADVISORY.x"},
    "is not mesh.work.<agent>.<task>": {"stream": "WORK", "subject": "mesh.work.ml-engineer"},
    "nothing is known of a task 't9'": {"stream": "WORK", "subject": "mesh.work.ml-engineer.t9"},
    "nobody waits for its summary": {"stream": "WORK", "subject": "mesh.work.summarizer.over"},
    "its body is not base64": {"body_base64": "no base64!"},
    "the letter keeps 2 of 70000 bytes": {"body_base64": "e30=", "body_bytes": 70_000},
    "task 'over' is over (completed)": {"subject": "mesh.task.over.answered.ml-engineer", "body_base64": "e30="},
    "its body can be no request (": {"subject": "mesh.task.over.submitted.ml-engineer", "body_base64": "Ww=="},
    "it is no JSON object": {"subject": "mesh.task.over.submitted.ml-engineer", "body_base64": "W10="},
}
"""Why a letter stays -> what is special about it."""


async def test_letters_that_nothing_would_come_of_stay(publisher: Publisher) -> None:
    """Anybody may write a letter: none becomes a message on a subject that its stream does not have."""
    await publisher.event("submitted", "ml-engineer", SUBMITTED, About(task="over"))
    await publisher.event("completed", "ml-engineer", Completed(reason="done"), About(task="over"))
    before = await publisher.bus.read(subjects.TASKS, ">", 1)
    subject = subjects.dead("gateway")
    for given in HOPELESS.values():
        await publisher.store(subject, letter_of(**given), About(), kind="mlmesh.dead", template=subject)
    found = await standing(publisher.bus)
    told = [await refusal(publisher, letter) for letter in found]
    assert [why for why, said in zip(HOPELESS, told, strict=True) if why not in said] == []
    assert (await publisher.bus.read(subjects.TASKS, ">", 1), await standing(publisher.bus)) == (before, found)


async def refusal(publisher: Publisher, letter: Letter) -> str:
    """Why a letter cannot be redriven."""
    with pytest.raises(Unredrivable) as refused:
        await dead.redrive(publisher, letter)
    return str(refused.value)


async def test_headers_of_a_letter_cannot_add_lines_to_a_message(publisher: Publisher) -> None:
    """What no header can be, and what the server would obey, is left out."""
    headers = {"x": "a\r\nNats-Rollup: all", "Nats-Rollup": "all", "a b": "c", "mesh-redrive": "99999999999", "ok": "1"}
    letter = letter_of(headers=headers, body_base64=b64encode(b"{nope").decode())
    subject = subjects.dead("gateway")
    await publisher.store(subject, letter, About(), kind="mlmesh.dead", template=subject)
    [found] = await standing(publisher.bus)
    await dead.redrive(publisher, found)
    [again] = await messages(publisher.bus, subjects.TASKS, letter.subject)
    assert sorted(again.headers) == ["Nats-Msg-Id", "ce-id", "mesh-causation-id", "mesh-redrive", "ok"]


async def test_what_is_no_letter_can_be_seen_and_discarded(publisher: Publisher) -> None:
    """Anybody may publish where letters are."""
    await publisher.bus.publish("mesh.dead.a.b.c", b"\xff", {MSG_ID: "x"})
    [letter] = await standing(publisher.bus)
    with pytest.raises(Unredrivable):
        await dead.redrive(publisher, letter)
    await dead.discard(publisher, letter)
    assert await standing(publisher.bus) == []


async def test_letters_are_found_by_task_and_by_reader(publisher: Publisher) -> None:
    """Filters leave the others alone."""
    for task, durable in (("t1", "gateway"), ("t2", "gateway"), ("t2", "ml-engineer")):
        stored = await stored_at(publisher.bus, f"mesh.task.{task}.answered.ml-engineer", durable.encode())
        await buried(publisher, stored, durable=durable)
    found = [await standing(publisher.bus, wanted) for wanted in (Filter(task="t2"), Filter(durable="gateway"))]
    assert [[(one.task, one.durable) for one in letters] for letters in found] == [
        [("t2", "gateway"), ("t2", "ml-engineer")],
        [("t1", "gateway"), ("t2", "gateway")],
    ]


async def test_a_message_is_buried_once_also_when_it_comes_again_much_later(publisher: Publisher) -> None:
    """A reader that lost its place reads everything anew: neither what stands nor what was settled is doubled."""
    later = replace(publisher, clock=lambda: datetime(2099, 1, 1, tzinfo=UTC))
    stands = await stored_at(publisher.bus, "mesh.report.stands", b"{nope")
    gone = await stored_at(publisher.bus, "mesh.report.gone", b"{nope")
    await dead.discard(publisher, await buried(publisher, gone))
    letter = await buried(publisher, stands)
    for stored in (stands, gone):
        await bury(later, stored, durable="gateway", reason="no", deliveries=1)
    assert [found.seq for found in await standing(publisher.bus)] == [letter.seq]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"a":[1]}', ("json", {"a": [1]})),
        (b"plain", ("text", "plain")),
        (b'{"a":NaN}', ("text", '{"a":NaN}')),
        (b'{"a":1,"a":2}', ("text", '{"a":1,"a":2}')),
        (b'"\\ud800"', ("text", '"\\ud800"')),
        (b"[" * 100_000, ("text", "[" * 100_000)),
        (b"\xff\x00", ("base64", "/wA=")),
        (b'{"password":"hunter2hunter2"}', ("json", {"password": "[redacted value]"})),
        (b"\xff sk-" + b"ant-" + b"a1" * 12, ("base64", "[redacted: bytes that seem to hold a secret]")),
    ],
)
def test_a_body_is_shown_as_it_can_be_read_without_secrets(content: bytes, told: tuple[str, object]) -> None:
    """JSON, else text, else base64; what would hide something is shown as it was written."""
    assert decoded(content) == told


def test_a_terminal_is_not_moved_by_what_somebody_sent() -> None:
    """Control characters are spelled out."""
    assert plain("a\x1b[2Jb\u202ec\n") == "a\\x1b[2Jb\\x202ec\n"


async def test_two_who_redrive_at_once_store_one_message(publisher: Publisher) -> None:
    """The id is the letter's: the server keeps the first."""
    stored = await stored_at(publisher.bus, "mesh.report.agent", b"{nope")
    letter = await buried(publisher, stored)
    await asyncio.gather(dead.redrive(publisher, letter), dead.redrive(publisher, letter))
    assert len(await messages(publisher.bus, subjects.REPORTS, "mesh.report.agent")) == 2
    assert (await standing(publisher.bus), len(await records(publisher.bus))) == ([], 1)
