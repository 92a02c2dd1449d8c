"""What each role may publish and subscribe to.

That is exactly what it says and hears in `CHANNELS`, and the JetStream calls that its part needs.
The server's configuration, the table of the documentation and the tests' matrix are made from `permissions`. Left
out: who holds which key, and the server's syntax for it. A reply subject is no permission's business: what the server
or a responder answers may land on any subject, so `envelope.decode` tells such an answer from an event.
"""

import re
from dataclasses import dataclass
from typing import Final

from contracts import subjects
from contracts.channels import CHANNELS, CLIENT, OPERATOR, SYSTEM, Channel
from contracts.subjects import (
    ADVISORIES,
    CONTEXT_MANAGER,
    DEAD,
    GATEWAY,
    ML_ENGINEER,
    REPORTS,
    SERVICES,
    SUMMARIZER,
    SYSTEMS,
    TASKS,
    TIMERS,
    WORK,
)

MONITOR: Final = "monitor"
"""Looks whether all is well, and reads tasks; writes nothing."""
PROVISIONER: Final = "provisioner"
"""Makes streams, durables and buckets; the only one that may."""
ROLES: Final = (*SERVICES, CLIENT, OPERATOR, SYSTEM, MONITOR, PROVISIONER)

AGENTS: Final = (ML_ENGINEER,)
"""Roles that carry tasks out: the last token of what they publish is their own name."""

CARDS: Final = f"KV_{subjects.AGENTS_BUCKET}"
PAYLOADS: Final = f"OBJ_{subjects.PAYLOADS_BUCKET}"
BUCKETS: Final = (CARDS, PAYLOADS)
"""The streams behind the buckets."""

DURABLES: Final = (
    (WORK, ML_ENGINEER),
    (WORK, SUMMARIZER),
    (TASKS, GATEWAY),
    (TIMERS, GATEWAY),
    (ADVISORIES, GATEWAY),
    (SYSTEMS, GATEWAY),
    (SYSTEMS, subjects.SYSTEMS_DURABLE),
)
"""(stream, name) of every durable."""

_PARAMETER = re.compile(r"\{(\w+)\}")
_API: Final = "$JS.API"


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """Subjects with wildcards, as the server takes them. What is not allowed is denied."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    never: tuple[str, ...] = ()
    """Not to be published on, although a wildcard of `publish` covers it."""
    responds: bool = False
    """May answer each request that it was sent, once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a role does on JetStream, and beside the channels."""

    durables: tuple[tuple[str, str], ...] = ()
    """(stream, name) of the durables that it works on."""
    reads: tuple[str, ...] = ()
    """Streams that it reads stored messages of; DEAD to bury no message twice."""
    follows: tuple[tuple[str, str], ...] = ()
    """(stream, filter) that it follows with consumers of its own."""
    counts: tuple[str, ...] = ()
    """Streams whose subjects it lists."""
    removes: tuple[str, ...] = ()
    """Streams that it removes messages from."""
    purges: tuple[str, ...] = ()
    """Streams that it empties of what it no longer needs."""
    looks: bool = False
    """Asks how the mesh is: the server, names of streams and durables, each service's health."""
    serves: bool = False
    """Is a service: has a card, answers for its health, sends and takes large bodies."""
    writes: bool = False
    """Publishes large bodies through the payload bucket."""

    @property
    def streams(self) -> tuple[str, ...]:
        """Everything that must be there before it can work."""
        own = (*dict(self.durables), *self.reads, *dict(self.follows), *self.counts)
        return tuple(dict.fromkeys((*own, *(BUCKETS if self.serves else ()))))


_REDRIVEN: Final = {TASKS, TIMERS, REPORTS, SYSTEMS}
"""Streams whose messages may become dead letters, and be said again."""
_ONE_TASK: Final = "mesh.task.*.>"
PARTS: Final = {
    CONTEXT_MANAGER: Part(reads=(DEAD,), follows=((REPORTS, subjects.ALL_REPORTS),), serves=True),
    ML_ENGINEER: Part(durables=((WORK, ML_ENGINEER),), reads=(TASKS, WORK, DEAD), purges=(TIMERS,), serves=True),
    SUMMARIZER: Part(durables=((WORK, SUMMARIZER),), reads=(TASKS, DEAD), serves=True),
    GATEWAY: Part(
        durables=((TASKS, GATEWAY), (TIMERS, GATEWAY), (ADVISORIES, GATEWAY), (SYSTEMS, GATEWAY)),
        reads=(TASKS, TIMERS, WORK, SYSTEMS, DEAD),
        counts=(TASKS, WORK),
        removes=(WORK,),
        serves=True,
    ),
    CLIENT: Part(reads=(TASKS, DEAD), follows=((TASKS, _ONE_TASK),), counts=(TASKS, DEAD), looks=True, writes=True),
    OPERATOR: Part(
        reads=(TASKS, TIMERS, WORK, REPORTS, SYSTEMS, DEAD),
        follows=((TASKS, _ONE_TASK),),
        counts=(TASKS, DEAD),
        removes=(DEAD,),
        looks=True,
        writes=True,
    ),
    SYSTEM: Part(),
    MONITOR: Part(reads=(TASKS, DEAD), counts=(DEAD,), looks=True),
    PROVISIONER: Part(),
}
"""Role -> its part."""


def permissions(role: str) -> Permissions:
    """Exactly what a role may do. Raises KeyError for a role that is none."""
    part = PARTS[role]
    publish = [*_said(role), *_calls(part), *(_made() if role == PROVISIONER else ())]
    subscribe = [f"{inbox(role)}.>", *_heard(role)]
    if part.serves:
        publish.append(subjects.ready(role))  # its probe runs beside it, with its key
        subscribe += [*_health(role), subjects.ready(role)]
    if any(channel.reply is not None and role in channel.receivers for channel in CHANNELS):
        publish.append(f"{inbox(role)}.>")  # it calls itself, to hear whether it would hear requests
    return Permissions(
        publish=tuple(sorted(set(publish))),
        subscribe=tuple(sorted(set(subscribe))),
        never=tuple(sorted(_of_others(part))),
        responds=part.serves,
    )


def inbox(role: str) -> str:
    """The prefix of the subjects that answers to this role come on. Nobody else may subscribe to them."""
    return f"_INBOX_{role}"


def _said(role: str) -> list[str]:
    """What it publishes by the registry. Whoever redrives a message says it again in its publisher's place."""
    said = {channel.name: _pattern(channel, role) for channel in CHANNELS if role in channel.senders}
    if role == OPERATOR:
        said |= {
            channel.name: _pattern(channel, role)
            for channel in CHANNELS
            if CLIENT in channel.senders or (channel.stream in _REDRIVEN and channel.name != "due")
        }
    return list(said.values())


def _heard(role: str) -> list[str]:
    """What it hears on core NATS by the registry: requests, and what is not stored; and hints to look."""
    heard = [
        _pattern(channel, role)
        for channel in CHANNELS
        if role in channel.receivers and not channel.stream and not channel.address.startswith("$")
    ]
    if role in AGENTS:
        heard += [subjects.events_named(event, role) for event in subjects.HINTS]
    if role == SUMMARIZER:
        heard += [subjects.events_named(event) for event in subjects.ENDING_HINTS]
    return heard


def _pattern(channel: Channel, role: str) -> str:
    """The channel's subjects that are the role's: literal where they name it, a wildcard elsewhere."""

    def part(match: re.Match[str]) -> str:
        own = (match[1] == "agent" and (role in AGENTS or channel.address.startswith("$KV"))) or (
            match[1] == "durable" and role in SERVICES and role != GATEWAY  # the gateway buries what others gave up
        )
        return subjects.token(role) if own else "*"

    return _PARAMETER.sub(part, channel.address)


def _calls(part: Part) -> list[str]:
    """The JetStream calls of a part, acknowledgements and questions about health."""
    calls = [f"{_API}.DIRECT.GET.{stream}" for stream in part.reads]
    calls += [f"{_API}.STREAM.INFO.{stream}" for stream in part.counts]
    calls += [f"{_API}.STREAM.MSG.DELETE.{stream}" for stream in part.removes]
    calls += [f"{_API}.STREAM.PURGE.{stream}" for stream in part.purges]
    for stream, durable in part.durables:
        calls += [f"{_API}.CONSUMER.{call}.{stream}.{durable}" for call in ("MSG.NEXT", "INFO")]
        calls.append(f"$JS.ACK.{stream}.{durable}.>")
    for stream, wanted in part.follows:
        calls.append(f"{_API}.CONSUMER.CREATE.{stream}.*.{wanted}")
        calls += [f"{_API}.CONSUMER.{call}.{stream}.*" for call in ("MSG.NEXT", "INFO", "DELETE")]
    if part.serves:
        calls.append(f"{_API}.STREAM.NAMES")
    if part.serves or part.writes:
        calls += [f"$O.{subjects.PAYLOADS_BUCKET}.C.*", f"$O.{subjects.PAYLOADS_BUCKET}.M.*"]
    if part.serves or part.writes or part.reads:
        calls.append(f"{_API}.DIRECT.GET.{PAYLOADS}")
    if part.looks:
        calls += [f"{_API}.INFO", f"{_API}.STREAM.NAMES"]
        calls += [f"{_API}.CONSUMER.NAMES.{stream}" for stream in dict(DURABLES)]
        calls += [f"{_API}.CONSUMER.INFO.{stream}.{durable}" for stream, durable in DURABLES]
        calls += [call for service in SERVICES for call in (f"$SRV.PING.{service}", subjects.ready(service))]
        calls.append(subjects.context_request("get_directory_purpose"))  # does anybody answer?
    return calls


def _of_others(part: Part) -> list[str]:
    """Who follows a stream with consumers of its own takes nothing from the durables on it, and changes none."""
    others = [(stream, durable) for stream, durable in DURABLES if stream in dict(part.follows)]
    calls = ("MSG.NEXT.{}.{}", "DELETE.{}.{}", "CREATE.{}.{}.>")
    return [f"{_API}.CONSUMER.{call.format(*durable)}" for call in calls for durable in others]


def _made() -> list[str]:
    """What it takes to make the mesh's streams, buckets and durables."""
    return [
        f"{_API}.INFO",
        *(
            f"{_API}.STREAM.{call}.{stream}"
            for stream in (*subjects.STREAMS, *BUCKETS)
            for call in ("INFO", "CREATE", "UPDATE")
        ),
        *(f"{_API}.CONSUMER.DURABLE.CREATE.{stream}.{durable}" for stream, durable in DURABLES),
    ]


def _health(service: str) -> list[str]:
    """Where a service is asked whether it is there, as NATS services are."""
    return [
        subject
        for verb in ("PING", "INFO", "STATS")
        for subject in (f"$SRV.{verb}", f"$SRV.{verb}.{service}", f"$SRV.{verb}.{service}.*")
    ]
