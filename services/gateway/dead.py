"""Dead letters as people operate on them: listed, shown, redriven, discarded.

A letter stands in DEAD until it is settled. What stays then is a record beside it (`mesh.dead.<durable>.settled`),
stored before the letter is removed: killed in between, the next attempt finds the record and only removes. A redrive
is stored before its record, under an id made from the letter, so that an attempt that was cut off is not doubled.
Nothing in a letter is believed: it goes back only to the subjects of the stream that it names. Left out: how it is
printed (commands/dead.py), who refuses messages (worker.py and the services).
"""

import contextlib
import json
import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final, Literal, cast
from urllib.parse import quote, unquote

from contracts import subjects
from contracts.dead import DeadLetter, LetterSettled, settled_id
from contracts.envelope import CAUSATION, CORRELATION, MSG_ID, REDRIVE, Stored, concerns, read_event
from contracts.events import Redriven
from contracts.message import ContractError
from contracts.task import TaskState, fold
from services._runtime.bus import CLAIM_CHECK, Bus, Expect
from services._runtime.errors import MeshError, WrongSequence
from services._runtime.publisher import About, Publisher

_SPACES: Final = {
    subjects.TASKS: (subjects.ALL_TASKS,),
    subjects.TIMERS: (subjects.ALL_TIMERS,),
    subjects.REPORTS: (subjects.ALL_REPORTS,),
    subjects.SYSTEMS: (subjects.ALL_SYSTEMS,),
}
"""Where a letter may go back to, for each stream that it can come from."""
_SUBJECT = re.compile(r"[^\s.*>\x00-\x1f\x7f]+(?:\.[^\s.*>\x00-\x1f\x7f]+)+")
_HEADER_NAME = re.compile(r"[^\s:\x00-\x1f\x7f]+")
_SCHEDULES: Final = "Nats-Schedule"
"""Headers of the server's that a redrive keeps: a timer is nothing without them. The others were for that one time."""
_CLAIM: Final = b'{"bucket"'
"""How a claim check begins: a letter may keep it, or the body that it stood for."""
_TRIES: Final = 5

How = Literal["published", "rung", "submitted", "already"]


class Unredrivable(MeshError):  # noqa: N818 - an outcome, like the rest of the tree
    """A letter that stays as it is. The text says why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A message of DEAD. `body` is None for one that is no letter: anybody may publish there."""

    seq: int
    at: datetime
    id: str
    place: str
    """Its subject."""
    body: DeadLetter | None
    problem: str = ""
    task: str = ""
    trace_id: str = ""

    @property
    def durable(self) -> str:
        """Who refused the message, as a subject token where no letter says it."""
        return self.body.durable if self.body else self.place.split(".")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which letters are meant; empty: all."""

    task: str = ""
    durable: str = ""

    def takes(self, letter: Letter) -> bool:
        """Whether it is one of them."""
        return self.task in {"", letter.task} and self.durable in {"", letter.durable}


@dataclass(frozen=True, slots=True, kw_only=True)
class Redrive:
    """What became of a letter that was redriven."""

    letter: Letter
    how: How
    message_id: str = ""
    subject: str = ""
    task: str = ""
    """The task that goes on; a new one for `submitted`."""


async def letters(bus: Bus, wanted: Filter) -> AsyncGenerator[Letter]:
    """Letters that nobody has settled, oldest first."""
    async for stored in _stored(bus):
        letter = read(stored)
        if not subjects.is_settled(stored.subject) and wanted.takes(letter):
            yield letter


async def records(bus: Bus) -> AsyncGenerator[tuple[Stored, LetterSettled]]:
    """What became of letters, oldest first. What is no record is left out."""
    async for stored in _stored(bus):
        if subjects.is_settled(stored.subject):
            with contextlib.suppress(ContractError):
                yield stored, LetterSettled.from_bytes(stored.data)


async def letter_at(bus: Bus, seq: int) -> Letter | None:
    """The letter at a sequence of DEAD; None where none stands."""
    stored = await bus.get(subjects.DEAD, seq)
    return None if stored is None or subjects.is_settled(stored.subject) else read(stored)


def read(stored: Stored) -> Letter:
    """The letter in a message of DEAD."""
    task, trace = concerns(stored)
    found = Letter(
        seq=stored.seq,
        at=stored.time,
        id=stored.headers.get(MSG_ID) or f"{stored.stream}-{stored.seq}",
        place=stored.subject,
        body=None,
        task=task,
        trace_id=trace.split("-")[1] if trace else "",
    )
    try:
        body = DeadLetter.from_bytes(stored.data)
    except ContractError as error:
        return replace(found, problem=error.reason)
    about = replace(stored, subject=body.subject, headers=body.headers)
    task, trace = concerns(about)
    return replace(found, body=body, task=task or found.task, trace_id=trace.split("-")[1] if trace else found.trace_id)


def body_of(letter: DeadLetter) -> bytes:
    """As much of the message's body as the letter keeps. Raises Unredrivable for what is no base64."""
    try:
        return b64decode(letter.body_base64, validate=True)
    except (NotBase64, ValueError) as error:
        raise Unredrivable(f"its body is not base64 ({error}): discard it") from error


async def redrive(publisher: Publisher, letter: Letter) -> Redrive:
    """Gives the message back to its readers as they are today, and settles the letter.

    Raises Unredrivable when nothing would come of it: the letter stays.
    """
    if await _record_of(publisher.bus, letter) is not None:
        await publisher.bus.delete(subjects.DEAD, letter.seq)
        return Redrive(letter=letter, how="already", task=letter.task)
    if letter.body is None:
        raise Unredrivable(f"it is no dead letter ({letter.problem}): discard it")
    done = await _Redriving(publisher, letter, letter.body).run()
    await _settle(publisher, letter, done)
    return done


async def discard(publisher: Publisher, letter: Letter) -> None:
    """Removes a letter for good; that it was there stays recorded."""
    if await _record_of(publisher.bus, letter) is None:
        await _settle(publisher, letter, None)
    else:
        await publisher.bus.delete(subjects.DEAD, letter.seq)


@dataclass(frozen=True, slots=True)
class _Redriving:
    """One letter on its way back."""

    publisher: Publisher
    letter: Letter
    body: DeadLetter

    async def run(self) -> Redrive:
        if self.body.stream == subjects.WORK:
            return await self._work()
        self._check_place()
        if self.body.stream == subjects.TASKS:
            place = _place(self.body.subject)
            if place is not None:
                return await self._event(place)
        return await self._publish(self.body.subject, await self._message())

    @property
    def message_id(self) -> str:
        """The same for every attempt at this letter."""
        return f"redrive-{self.letter.seq}-{self._times}"

    @property
    def _times(self) -> int:
        """How often the message was redriven, this time included."""
        told = _header(self.body.headers, REDRIVE)
        return 1 + (int(told) if told.isascii() and told.isdigit() and len(told) < 9 else 0)

    async def _work(self) -> Redrive:
        """A doorbell cannot be published: its task is rung anew, or submitted anew where it is over."""
        try:
            agent, task = subjects.parse_work_item(self.body.subject)
        except subjects.SubjectError as error:
            raise Unredrivable(f"{error}: discard it") from error
        state = await self._state(task)
        if state.final is None and state.request is not None:
            return await self._ring(state)
        if agent == subjects.SUMMARIZER:
            raise Unredrivable(f"task {task!r} is over or unknown: nobody waits for its summary; discard it")
        if state.request is None:
            raise Unredrivable(f"nothing is known of a task {task!r}: submit the request again, discard this letter")
        history = await self.publisher.bus.history(task)
        request = next(stored for stored in history if read_event(stored).body == state.request)
        return await self._submit(task, state.agent, request)

    async def _event(self, place: subjects.TaskSubject) -> Redrive:
        state = await self._state(place.task)
        if place.event == "submitted" and (state.final is not None or state.request is not None):
            return await self._submit(place.task, place.agent, await self._message())
        if place.event != "submitted" and state.final is not None:
            raise Unredrivable(
                f"task {place.task!r} is over ({state.status}): `{place.event}` changes nothing any more; discard it"
            )
        return await self._publish(self.body.subject, await self._message())

    async def _ring(self, state: TaskState) -> Redrive:
        """By compare-and-set on the fold, under an id that is looked for first: rung once, however often tried."""
        body = Redriven(reason="a dead letter was redriven", dead_id=self.letter.id)
        done = Redrive(letter=self.letter, how="rung", message_id=self.message_id, task=state.task)
        for _ in range(_TRIES):
            if await self._is_stored(state.task):
                return done
            about = About(
                task=state.task,
                id=self.message_id,
                causation=self.letter.id,
                workspace=state.workspace,
                parent=f"00-{state.trace_id}-{state.root_span_id}-01",
            )
            expect = Expect(subjects.task_history(state.task), state.last_seq)
            try:
                await self.publisher.event("redriven", state.agent, body, about, expect=expect)
            except WrongSequence:
                state = await self._state(state.task)
            else:
                return done
        raise Unredrivable(f"task {state.task!r} is at work and moves: it goes on as it is; look at it, then try again")

    async def _submit(self, task: str, agent: str, message: Stored) -> Redrive:
        """As a new task, whose id is made from the letter: however often tried, it is the same one."""
        digest = blake2b(f"{self.letter.id}/{self.letter.at.isoformat()}".encode(), digest_size=8).hexdigest()
        new = f"{task[:47]}-{digest}"
        subject = subjects.task_event(new, "submitted", agent)
        message = replace(message, data=_with_parent(message.data, task))
        try:
            return await self._publish(subject, message, new=new)
        except WrongSequence:
            if not await self._is_stored(new):
                raise Unredrivable(f"task id {new!r} is taken by another task: submit the request by hand") from None
        return self._done("submitted", subject, new)

    async def _publish(self, subject: str, message: Stored, *, new: str = "") -> Redrive:
        expect = Expect(subjects.task_history(new), 0) if new else None
        await self.publisher.bus.publish(subject, message.data, self._headers(message.headers, new), expect=expect)
        return self._done("submitted" if new else "published", subject, new)

    def _done(self, how: How, subject: str, new: str) -> Redrive:
        return Redrive(
            letter=self.letter, how=how, message_id=self.message_id, subject=subject, task=new or self.letter.task
        )

    def _headers(self, own: Mapping[str, str], new: str) -> dict[str, str]:
        """The message's own, with its identity; caused by the letter. A new task's message is told of that task."""
        identity = _header(own, "ce-id") or _header(own, MSG_ID)
        ours = {
            MSG_ID: self.message_id,
            "ce-id": quote(identity or f"{self.body.stream}-{self.body.stream_seq}", safe="/:@"),
            CAUSATION: self.letter.id,
            REDRIVE: str(self._times),
            **({"ce-subject": new, CORRELATION: new} if new else {}),
        }
        replaced = {name.lower() for name in (*ours, CLAIM_CHECK)}
        kept = {name: value for name, value in own.items() if _kept(name, value, self.body.subject)}
        return {**{name: value for name, value in kept.items() if name.lower() not in replaced}, **ours}

    async def _message(self) -> Stored:
        """The message, its body whole: as its stream holds it, else as the letter keeps it. Raises Unredrivable."""
        stored = await self.publisher.bus.get(self.body.stream, self.body.stream_seq)
        if stored is None or stored.subject != self.body.subject:
            stored = await self._kept_message()
        if CLAIM_CHECK in stored.headers and not stored.data:
            raise Unredrivable("its payload is gone from the object store: publish it again by hand, discard this")
        return stored

    async def _kept_message(self) -> Stored:
        content = body_of(self.body)
        if len(content) < self.body.body_bytes:
            raise Unredrivable(
                f"the letter keeps {len(content)} of {self.body.body_bytes} bytes, and the message is gone from"
                f" {self.body.stream}: publish it again by hand, discard this letter"
            )
        kept = self._as_letter(content)
        return await self.publisher.bus.readable(kept) if content.startswith(_CLAIM) else kept

    def _as_letter(self, content: bytes) -> Stored:
        """A message with the headers that the letter tells."""
        return Stored(
            stream=self.body.stream,
            seq=self.body.stream_seq,
            subject=self.body.subject,
            time=self.letter.at,
            headers=self.body.headers,
            data=content,
        )

    def _check_place(self) -> None:
        """A letter is only what somebody wrote: it must not become a message on any subject there is."""
        spaces = _SPACES.get(self.body.stream)
        if spaces is None:
            raise Unredrivable(f"messages of {self.body.stream!r} are not published by hand: discard it")
        told = self.body.subject
        if not _SUBJECT.fullmatch(told) or not told.startswith(tuple(space.removesuffix(">") for space in spaces)):
            raise Unredrivable(f"{told!r} is no subject of {self.body.stream} that can be published on: discard it")

    async def _state(self, task: str) -> TaskState:
        return fold(task, [read_event(stored) for stored in await self.publisher.bus.history(task)])

    async def _is_stored(self, task: str) -> bool:
        history = await self.publisher.bus.history(task)
        return any(stored.headers.get(MSG_ID) == self.message_id for stored in history)


async def _settle(publisher: Publisher, letter: Letter, done: Redrive | None) -> None:
    """The record, then the removal."""
    body = letter.body
    record = LetterSettled(
        how="redriven" if done else "discarded",
        letter_id=letter.id,
        letter_seq=letter.seq,
        reason=body.reason if body else letter.problem,
        stream=body.stream if body else subjects.DEAD,
        stream_seq=body.stream_seq if body else letter.seq,
        subject=body.subject if body else letter.place,
        redrive_id=done.message_id if done else "",
        task=done.task if done else letter.task,
    )
    subject = subjects.settled(_durable_token(letter))
    about = About(task=letter.task, id=settled_id(letter.id), causation=letter.id)
    await publisher.store(subject, record, about, kind="mlmesh.settled", template=subject)
    await publisher.bus.delete(subjects.DEAD, letter.seq)


async def _record_of(bus: Bus, letter: Letter) -> Stored | None:
    """The record that this letter was settled: only a letter whose removal was cut off has one and still stands."""
    wanted = settled_id(letter.id)
    pages = bus.pages(subjects.DEAD, subjects.settled(_durable_token(letter)), first=letter.seq + 1)
    async with contextlib.aclosing(pages):
        async for page in pages:
            for stored in page:
                if unquote(stored.headers.get(MSG_ID, "")) == wanted:
                    return stored
    return None


def _durable_token(letter: Letter) -> str:
    """The name whose letters stand on the letter's subject; of what is no durable's, the letter's own words."""
    token = letter.place.split(".")[2]
    try:
        return subjects.name_of(token)
    except subjects.SubjectError:
        return token


async def _stored(bus: Bus) -> AsyncGenerator[Stored]:
    async for page in bus.pages(subjects.DEAD, subjects.ALL_DEAD):
        for stored in page:
            yield await bus.readable(stored)


def _place(subject: str) -> subjects.TaskSubject | None:
    try:
        return subjects.parse_task_event(subject)
    except subjects.SubjectError:
        return None


def _with_parent(content: bytes, task: str) -> bytes:
    """A submission that says which task it comes from; whatever else it says stays. Raises Unredrivable."""
    try:
        told: object = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Unredrivable(f"its body can be no request ({error}): submit a correct one, discard this") from error
    if not isinstance(told, dict):
        raise Unredrivable("its body can be no request, it is no JSON object: submit a correct one, discard this")
    request = {**cast("dict[str, Any]", told), "parent": task}
    return json.dumps(request, separators=(",", ":")).encode()


def _header(headers: Mapping[str, str], wanted: str) -> str:
    return next((unquote(value) for name, value in headers.items() if name.lower() == wanted.lower()), "")


def _kept(name: str, value: str, subject: str) -> bool:
    """Whether a header goes back: only what a header can be, and nothing that was between publisher and server."""
    if not _HEADER_NAME.fullmatch(name) or any(char in value for char in "\r\n\x00"):
        return False
    return not name.lower().startswith("nats-") or (subjects.is_timer(subject) and name.startswith(_SCHEDULES))
