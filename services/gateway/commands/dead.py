"""`mlmesh dead`: what nobody could process: list it, show one, give it back to its readers, discard it.

What is printed passes the rules that blank secrets, and control characters are spelled out: a letter holds whatever
somebody sent. The stored letter stays whole. Left out: what happens to a letter (services/gateway/dead.py).
"""

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from services._runtime.errors import BusUnavailable, MeshError
from services._runtime.redaction import redact, secrets_in
from services.gateway import dead, requests
from services.gateway.attach import Desk, at_desk, place_of
from services.gateway.dead import Filter, Letter, Redrive, Unredrivable
from services.gateway.errand import terminal
from services.gateway.exits import Exit, Usage
from services.gateway.output import Output

if TYPE_CHECKING:
    from rich.table import Table

_WITHHELD: Final = "[redacted: bytes that seem to hold a secret]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What stands on the command line."""

    action: Literal["list", "show", "redrive", "discard"]
    seqs: list[int]
    every: bool
    task: str
    durable: str
    settled: bool
    yes: bool
    workspace: str

    @property
    def filter(self) -> Filter:
        """Which letters are meant."""
        return Filter(task=self.task, durable=self.durable)


async def execute(options: Options, output: Output) -> int:
    """Does what the second word says. Raises Usage for words that do not go together."""
    _check(options)
    act = {"list": _list, "show": _show, "redrive": _redrive, "discard": _discard}[options.action]

    async def at_work(desk: Desk) -> int:
        return await act(desk, options, output)

    return await at_desk(place_of(options.workspace), "bus", at_work)


def _check(options: Options) -> None:
    """Raises Usage: nothing is touched before it is clear what is meant."""
    if options.task:
        requests.checked_id(options.task)
    if options.action == "show" and len(options.seqs) != 1:
        raise Usage("which one? mlmesh dead show SEQ; the numbers: mlmesh dead list")
    if options.action in {"redrive", "discard"} and bool(options.seqs) == options.every:
        raise Usage(f"which ones? mlmesh dead {options.action} SEQ ..., or --all with --task or --durable")
    if options.action == "list" and options.seqs:
        raise Usage("`list` takes no numbers: to see one letter use mlmesh dead show SEQ")


async def _list(desk: Desk, options: Options, output: Output) -> int:
    if options.settled:
        return await _list_settled(desk, output)
    rows = [_row(letter) async for letter in dead.letters(desk.bus, options.filter)]
    plain = [_table(rows), "", "one in full: mlmesh dead show SEQ"] if rows else ["no dead letters"]
    output.result({"letters": rows}, *plain)
    return Exit.SUCCESS


async def _list_settled(desk: Desk, output: Output) -> int:
    rows = [
        {"seq": stored.seq, "time": stored.time.isoformat(), **_clean(record.model_dump())}
        async for stored, record in dead.records(desk.bus)
    ]
    lines = [f"{row['time']}  {row['how']} {row['letter_id']} ({row['subject']}): {row['reason']}" for row in rows]
    output.result({"settled": rows}, "\n".join(lines) or "nothing was settled")
    return Exit.SUCCESS


async def _show(desk: Desk, options: Options, output: Output) -> int:
    letter = await _letter(desk, options.seqs[0])
    found = {**_row(letter), **_whole(letter)}
    head = [f"{name}: {plain(_spelled(value))}" for name, value in found.items() if name not in {"headers", "body"}]
    headers = [f"  {name}: {plain(value)}" for name, value in found["headers"].items()]
    output.result(found, *head, "headers:", *headers, "body:", plain(_spelled(found["body"])))
    return Exit.SUCCESS


async def _redrive(desk: Desk, options: Options, output: Output) -> int:
    done: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    for letter in await _meant(desk, options):
        try:
            done.append(_done(await dead.redrive(desk.publisher, letter)))
        except BusUnavailable:
            raise
        except MeshError as error:
            refused.append({"seq": letter.seq, "subject": _subject(letter), "reason": redact(str(error))})
    lines = [f"{row['seq']} {row['how']}: {row['told']}" for row in done]
    lines += [f"{row['seq']} stays: {row['reason']}" for row in refused]
    output.result({"redriven": done, "refused": refused}, plain("\n".join(lines)) or "no dead letters")
    if refused:
        return Exit.PARTIAL if done else Exit.FAILED
    return Exit.SUCCESS


async def _discard(desk: Desk, options: Options, output: Output) -> int:
    letters = await _meant(desk, options)
    if options.every and letters and not options.yes and not await _agreed(len(letters), output):
        raise Usage(f"{len(letters)} dead letters would be gone for good: say so with --yes")
    rows = [_row(letter) for letter in letters]
    for letter in letters:
        await dead.discard(desk.publisher, letter)
    lines = [f"{row['seq']} discarded: {row['subject']}: {row['reason']}" for row in rows]
    output.result({"discarded": rows}, plain("\n".join(lines)) or "no dead letters")
    return Exit.SUCCESS


async def _agreed(count: int, output: Output) -> bool:
    person = terminal(output)
    return person is not None and await person.agrees(f"Discard {count} dead letters for good?")


async def _meant(desk: Desk, options: Options) -> list[Letter]:
    """The letters of a command, in the order of the command line. Raises Usage when one is not there."""
    if options.every:
        return [letter async for letter in dead.letters(desk.bus, options.filter)]
    return [await _letter(desk, seq) for seq in dict.fromkeys(options.seqs)]


async def _letter(desk: Desk, seq: int) -> Letter:
    found = await dead.letter_at(desk.bus, seq) if 0 < seq < 2**63 else None
    if found is None:
        raise Usage(f"there is no dead letter {seq}: see those there are with mlmesh dead list")
    return found


def _row(letter: Letter) -> dict[str, Any]:
    """What a list says of a letter."""
    body = letter.body
    return {
        "seq": letter.seq,
        "time": letter.at.isoformat(),
        "reason": redact(body.reason if body else letter.problem),
        "subject": _subject(letter),
        "task": redact(letter.task),
        "trace_id": letter.trace_id,
        "deliveries": body.deliveries if body else 0,
        "durable": redact(letter.durable),
    }


def _whole(letter: Letter) -> dict[str, Any]:
    """What else there is to say of a letter."""
    if letter.body is None:
        kind, body, size, cut = "text", "", 0, False
    else:
        content = _content(letter)
        kind, body = decoded(content)
        size, cut = max(letter.body.body_bytes, len(content)), len(content) < letter.body.body_bytes
    return {
        "id": redact(letter.id),
        "stream": letter.body.stream if letter.body else "DEAD",
        "stream_seq": letter.body.stream_seq if letter.body else letter.seq,
        "do": advice(letter),
        "headers": _clean(letter.body.headers) if letter.body else {},
        "body_kind": kind,
        "body_bytes": size,
        "body_cut": cut,
        "body": body,
    }


def _content(letter: Letter) -> bytes:
    try:
        return dead.body_of(letter.body) if letter.body else b""
    except Unredrivable:
        return letter.body.body_base64.encode() if letter.body else b""


def advice(letter: Letter) -> str:
    """What a person can do about it."""
    give, drop = f"mlmesh dead redrive {letter.seq}", f"mlmesh dead discard {letter.seq}"
    if letter.body is None:
        return f"it is no dead letter, somebody published it here: {drop}"
    look = f"; what became of the task: mlmesh show {letter.task}" if letter.task.isascii() and letter.task else ""
    return f"mend what the reason names, then {give}; where nothing is to come of it, {drop}{look}"


def decoded(content: bytes) -> tuple[Literal["json", "text", "base64"], Any]:
    """A body as a person can read it, without secrets: JSON, else text, else base64."""
    try:
        text = redact(content.decode())
    except UnicodeDecodeError:
        hidden = secrets_in(content.decode("latin-1"))
        return "base64", _WITHHELD if hidden else b64encode(content).decode()
    try:
        value: object = json.loads(text, parse_constant=_refused, object_pairs_hook=_once)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return "text", text
    return "json", value


def plain(text: str) -> str:
    """Text for a terminal: what would move the cursor or hide something is spelled out."""
    return "".join(char if char.isprintable() or char == "\n" else f"\\x{ord(char):02x}" for char in text)


def _refused(constant: str) -> object:
    raise ValueError(f"{constant} is no JSON")


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which a name comes twice is shown as it was written: readers may take either."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name comes twice")
    return dict(pairs)


def _clean(told: Mapping[str, Any]) -> dict[str, Any]:
    """Names and values without secrets; what looks like one may be told by its name."""
    pairs = {str(name): value for name, value in told.items()}
    return {
        redact(name): redact(f"{name}: {value}").removeprefix(f"{name}: ") if isinstance(value, str) else value
        for name, value in pairs.items()
    }


def _subject(letter: Letter) -> str:
    return redact(letter.body.subject if letter.body else letter.place)


def _done(done: Redrive) -> dict[str, Any]:
    told = {
        "published": f"published again on {done.subject}",
        "rung": f"task {done.task} was rung again",
        "submitted": f"task {done.letter.task} is over: its request goes on as task {done.task}",
        "already": "was redriven or discarded before; now it is removed too",
    }[done.how]
    return {
        "seq": done.letter.seq,
        "how": done.how,
        "message_id": done.message_id,
        "subject": done.subject,
        "task": done.letter.task,
        "goes_on_as": done.task,
        "told": redact(told),
    }


def _spelled(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


def _table(rows: Sequence[Mapping[str, Any]]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, expand=True)
    for name in ("seq", "time", "durable", "tries"):
        table.add_column(name, no_wrap=True)
    table.add_column("subject", overflow="fold", ratio=2)
    table.add_column("reason", overflow="fold", ratio=3)
    for row in rows:
        cells = (row["seq"], cast("str", row["time"])[:19], row["durable"], row["deliveries"])
        table.add_row(*(Text(plain(str(cell))) for cell in (*cells, row["subject"], row["reason"])))
    return table
