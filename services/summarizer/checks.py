"""What a text about a task may say: pure checks against the journal and the workspace.

Owns the rules: every path exists, every number, version and date occurs in a message, every agent is in the
journal, no success is told where there is none, nothing planned or failed is told as done, no secrets, no
length. A check returns what is wrong in words; an empty tuple is a text that may be shown. Numbers may be
rounded (0.8476 as .85) and shares may be percents; nothing else about them may change.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

from contracts.briefing import Briefing
from contracts.envelope import TaskEvent
from contracts.report import ActivityReport
from contracts.summary import Outcome
from contracts.task import TaskState
from services._runtime.redaction import secrets_in
from services.summarizer.claims import gate_words, outcome_of, words
from services.summarizer.template import MAX_WORDS

_SLACK_WORDS: Final = 20
"""About 200 words: a sentence more is no reason to refuse a text."""

_URL = re.compile(r"[a-z]+://[^\s`)\"'>]+", re.IGNORECASE)
_PATH = re.compile(r"(?<![\w/.~-])(?:/|\./)?(?:[\w.@+-]+/)*[\w.@+-]+/?(?::\d+)?")
_CODE = re.compile(r"`([^`]+)`")
_EXTENSION = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,5}$")
_ISO_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
_SPOKEN_DATE = re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)? ({'|'.join(_MONTHS)}),? (\d{{4}})\b", re.IGNORECASE)
_VERSION = re.compile(r"(?<![\w.])v?(\d+\.\d+\.\d+[\w.+-]*)")
_SHORT_VERSION = re.compile(r"(?<![\w.])v(\d+)\b(?!\.\d)")
_MIXED = re.compile(r"(?<![\w.])(?=\w*\d)(?=\w*[A-Za-z])[A-Za-z]\w*")
_NUMBER = re.compile(
    r"(?<![\w.])[-\u2212]?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:e[-+]?\d{1,3})?(?!\d)", re.IGNORECASE
)
_AGENT = re.compile(
    r"(?<![\w/.-])[a-z0-9]+(?:-[a-z0-9]+)*-"
    r"(?:engineer|manager|developer|architect|analyst|scientist|specialist|reviewer|expert|pro|auditor|agent"
    r"|optimizer|writer|designer|tester|debugger)(?![\w-])|(?<![\w-])summarizer(?![\w-])",
    re.IGNORECASE,
)
_SUCCESS = re.compile(r"\b(?:success\w*|succeed\w*|accomplish\w*|flawless\w*|perfect\w*)\b", re.IGNORECASE)
_ENDED_WELL = re.compile(
    r"\b(?:complete(?:d|ly)?|fully|finished|production[- ]ready|ready|(?:works|working) as (?:asked|expected|intended)"
    r"|(?:all|every) (?:\w+ )?(?:checks?|gates?|tests?|requirements?|objectives?) (?:\w+ )?(?:pass|met|hold)\w*)\b",
    re.IGNORECASE,
)
_NEGATION: Final = r"\b(?:no|not|never|nothing|none|nobody|without|cannot|neither|nor)\b|n['\u2019]t\b"
_NEGATED_BEFORE = re.compile(rf"(?:{_NEGATION})(?:\W+\w+){{0,3}}\W*$", re.IGNORECASE)
_SHORTFALL = re.compile(
    rf"{_NEGATION}|\b(?:fail\w*|miss(?:es|ed|ing)|until|yet|later|plan(?:s|ned)?|pending|unmet|unfinished|incomplete"
    r"|partial\w*|part of|exceed\w*|over the|above the|below the|short of|lack\w*|refused|stopped|cancel\w*)\b",
    re.IGNORECASE,
)
_MET = re.compile(
    r"\b(?:met|meets?|holds?|pass(?:es|ed)?|within|satisf\w+|support(?:s|ed)|works?|achiev\w+|reach\w*|ensur\w+"
    r"|guarantee\w*|fulfil\w*|in place|done|enabled|active)\b"
)
_BUILT = re.compile(
    r"\b(?:built|trained|delivered|created|wrote|written|generated|implemented|packaged|serves)\b", re.IGNORECASE
)
_LATER_WORK: Final = tuple(
    (step, re.compile(rf"\b(?:{done})\b", re.IGNORECASE))
    for step, done in {
        "deploy": r"(?:is|was|been|now) (?:live|deployed)|deployed (?:to|in|into)|in production|rolled out",
        "promote": r"promoted|now serves|serves (?:all )?(?:traffic|users|requests)",
        "rollback": r"rolled back",
        "monitor": r"(?:is|are|being) (?:now )?monitored|monitoring is (?:on|running|active)",
        "retrain": r"(?:was|been|is) (?:being )?retrained",
    }.items()
)
"""Step -> words that tell of it as done: true only where a step of that name is in the journal."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What a text is held against."""

    text: str
    """Every body and day of the journal, lower case."""
    numbers: frozenset[float]
    agents: frozenset[str]
    files: frozenset[str]
    """Files of the report and the delivery, `/`-rooted."""
    workspace: Path
    system_dir: str
    outcome: Outcome
    delivered: bool
    quoted: str
    """The request and the report's words: a path or a word in them may be repeated."""
    not_done: tuple[str, ...]
    """Names of failed checks and of fields that are not met, in words."""
    done_steps: frozenset[str]


def sources(state: TaskState, history: Sequence[TaskEvent], *, workspace: Path) -> Sources:
    """The sources of a task. The summariser's own message is no source."""
    events = [event for event in history if event.event != "summarised"]
    bodies = "\n".join(event.body.to_bytes().decode() for event in events if event.body is not None)
    days = "\n".join(event.metadata.time.date().isoformat() for event in events)
    delivered = state.delivered
    return Sources(
        text=f"{days}\n{bodies}".lower(),
        numbers=frozenset(float(_ascii(found)) for found in _NUMBER.findall(bodies)),
        agents=frozenset(_agents(events)),
        files=frozenset(_reported(state)),
        workspace=workspace,
        system_dir=delivered.system_dir.strip("/") if delivered else "",
        outcome=outcome_of(state),
        delivered=delivered is not None,
        quoted=" ".join((state.request.request if state.request else "", state.report.summary if state.report else "")),
        not_done=_not_done(state),
        done_steps=frozenset(step.name for step in state.steps.values() if step.outcome == "ok"),
    )


def problems(text: str, held_against: Sources) -> tuple[str, ...]:
    """What is wrong with the text, each in words; empty when it may be shown."""
    return tuple(problem for check in CHECKS for problem in check(text, held_against))


def check_length(text: str, _sources: Sources) -> Iterator[str]:
    """Not empty, and about MAX_WORDS words at most."""
    count = len(text.split())
    if count == 0:
        yield "the text is empty"
    if count > MAX_WORDS + _SLACK_WORDS:
        yield f"{count} words, at most {MAX_WORDS}"


def check_secrets(text: str, _sources: Sources) -> Iterator[str]:
    """Nothing that looks like a secret."""
    for kind in secrets_in(text):
        yield f"holds something that looks like a secret: {kind}"


def check_paths(text: str, sources: Sources) -> Iterator[str]:
    """Every path exists in the workspace or stands in the report; every address occurs in a message."""
    for url in _URL.findall(text):
        if url.rstrip(".,;:").lower() not in sources.text:
            yield f"address {url} occurs in no message"
    for path in _paths(text, sources):
        if not _exists(path, sources):
            yield f"path {path} does not exist"


def check_numbers(text: str, sources: Sources) -> Iterator[str]:
    """Every number, version and date occurs in a message."""
    yield from _wrong_dates(text, sources)
    rest = _without_names(text, sources)
    for version in _VERSION.findall(rest):
        if version.rstrip(".") not in sources.text:
            yield f"version {version} occurs in no message"
    rest = _VERSION.sub(" ", rest)
    for version in _SHORT_VERSION.findall(rest):
        if float(version) not in sources.numbers:
            yield f"version {version} occurs in no message"
    for name in _MIXED.findall(_SHORT_VERSION.sub(" ", rest)):
        if name.lower() not in sources.text and words(name).lower() not in sources.text:
            yield f"{name} occurs in no message"
    for match in _NUMBER.finditer(rest):
        if not _occurs(match, sources.numbers):
            yield f"number {match.group()} occurs in no message"


def check_agents(text: str, sources: Sources) -> Iterator[str]:
    """Every agent that is named is in the journal."""
    for name in _AGENT.findall(text):
        if name.lower() not in sources.agents:
            yield f"agent {name} is not in the journal"


def check_success(text: str, sources: Sources) -> Iterator[str]:
    """No word of success unless the report says success, and a shortfall is told as one."""
    if sources.outcome == "success":
        return
    for part in _sentences(text):
        praise = [m for m in _SUCCESS.finditer(part) if not _NEGATED_BEFORE.search(part[: m.start()])]
        if not _SHORTFALL.search(part):
            praise.extend(_ENDED_WELL.finditer(part))
        for match in praise:
            if match.group().lower() not in sources.quoted.lower():
                yield f"tells {match.group()!r} of work that ended as {sources.outcome}"
    if not _SHORTFALL.search(text):
        yield f"does not tell that the work ended as {sources.outcome}"


def check_planned(text: str, sources: Sources) -> Iterator[str]:
    """Nothing that is planned, not met or failed is told as done."""
    for part in _sentences(text):
        if _SHORTFALL.search(part):
            continue
        lowered = words(part.lower())
        for name in sources.not_done:
            if _MET.search(lowered) and re.search(rf"\b{re.escape(name)}\b", lowered):
                yield f"tells {name!r} as if it were done"
        for step, done in _LATER_WORK:
            if done.search(part) and not any(step in name for name in sources.done_steps):
                yield f"tells as done what no step did: {step}"
        if not sources.delivered and _BUILT.search(part):
            yield "tells of something built where nothing was delivered"


CHECKS: Final[tuple[Callable[[str, Sources], Iterator[str]], ...]] = (
    check_length,
    check_secrets,
    check_paths,
    check_numbers,
    check_agents,
    check_success,
    check_planned,
)


def _agents(events: Sequence[TaskEvent]) -> Iterator[str]:
    for event in events:
        yield event.agent.lower()
        yield event.metadata.source.rsplit(":", 1)[-1].lower()
        match event.body:
            case ActivityReport(reporting_agent=agent):
                yield agent.lower()
            case Briefing(response_to=agent, briefing=body):
                yield "context-manager"
                yield agent.lower()
                yield from (activity.agent.lower() for activity in body.related_activity)
            case _:
                pass


def _reported(state: TaskState) -> Iterator[str]:
    yield from state.report.files_modified if state.report else ()
    yield from (artifact.path for artifact in state.delivered.artifacts) if state.delivered else ()


def _not_done(state: TaskState) -> tuple[str, ...]:
    """Words that must not be told as done: names of failed checks, fields that unmet requirements begin with."""
    if state.delivered is None:
        return ()
    failed = [gate_words(gate).lower() for gate in state.delivered.gates if not gate.passed]
    unmet = [re.match(r"[\w.]+", requirement) for requirement in state.delivered.unmet]
    fields = [words(match.group().rsplit(".", 1)[-1]).lower() for match in unmet if match and "." in match.group()]
    return tuple(dict.fromkeys(failed + fields))


def _sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.!?])\s+|\n+|;\s", text) if part.strip()]


def _paths(text: str, sources: Sources) -> Iterator[str]:
    """What reads as a path: rooted, or with a slash in code, or with a slash and an extension.

    Addresses and the files of the report are left out: those are known, and may hold spaces.
    """
    known = _masked(text, sources)
    spans = [match.span(1) for match in _CODE.finditer(text)]
    for match in _PATH.finditer(known):
        path = re.sub(r":\d+$", "", match.group()).rstrip(".,")
        in_code = any(start <= match.start() < end for start, end in spans)
        rooted = path.startswith("/") and len(path) > 1
        if rooted or ("/" in path and (in_code or path.startswith("./") or _EXTENSION.search(path))):
            yield path


def _masked(text: str, sources: Sources) -> str:
    """The text of the same length with blanks for addresses and files of the report."""
    text = _URL.sub(_blank, text)
    for path in sorted(sources.files, key=len, reverse=True):
        if path in text:
            text = re.sub(rf"(?<![\w/]){re.escape(path)}(?![\w/-])", _blank, text)
    return text


def _blank(match: re.Match[str]) -> str:
    return " " * len(match.group())


def _exists(path: str, sources: Sources) -> bool:
    inside = path.removeprefix(str(sources.workspace)).strip("/").removeprefix("./")
    if ".." in inside.split("/"):
        return False
    candidates = [inside]
    if not path.startswith("/") and sources.system_dir:
        candidates.append(f"{sources.system_dir}/{inside}")
    if path in _paths_quoted(sources):
        return True
    return any(f"/{name}" in sources.files or _is_there(sources.workspace / name) for name in candidates)


def _is_there(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - False, where Path.exists raises for a name that is too long


def _paths_quoted(sources: Sources) -> frozenset[str]:
    return frozenset(match.group().rstrip(".,") for match in _PATH.finditer(sources.quoted))


def _without_names(text: str, sources: Sources) -> str:
    """The text without dates, addresses and paths that exist: the digits in them are no numbers."""
    rest = _masked(_ISO_DATE.sub(" ", _SPOKEN_DATE.sub(" ", text)), sources)
    for path in sorted(set(_paths(rest, sources)), key=len, reverse=True):
        if _exists(path, sources):
            rest = rest.replace(path, " ")
    return rest


def _wrong_dates(text: str, sources: Sources) -> Iterator[str]:
    spoken = (
        f"{year}-{_MONTHS.index(month.lower()) + 1:02d}-{int(day):02d}"
        for day, month, year in _SPOKEN_DATE.findall(text)
    )
    for date in (*_ISO_DATE.findall(text), *spoken):
        if date not in sources.text:
            yield f"date {date} occurs in no message"


def _occurs(match: re.Match[str], numbers: frozenset[float]) -> bool:
    """True when some source number, rounded as the text has it, is this number; a percent may be a share."""
    written = Decimal(_ascii(match.group()))
    half = Decimal("0.5000000001").scaleb(int(written.as_tuple().exponent))
    following = match.string[match.end() : match.end() + 9].lstrip().lower()
    scales = (1, 100) if following.startswith(("%", "percent")) else (1,)
    return any(abs(Decimal(source) * scale - written) <= half for source in numbers for scale in scales)


def _ascii(number: str) -> str:
    return number.replace(",", "").replace("\u2212", "-")
