"""What a request is after: a new system, or something about one that is delivered already.

Pure text in, an intent out. Only a request that plainly speaks of what exists is one of the others: a wish for a
system with a rollback plan is a wish for a system. Left out: which system is meant, which the workspace decides.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import JsonValue

from services.ml_engineer.request import words_of

Action = Literal["build", "retrain", "rollback", "promote", "explain", "history", "upgrade", "adopt"]

_WISH: Final = r"(?:we|i)(?:'d like| would like| need| want)(?: you)? to"
_POLITE: Final = rf"^\W*(?:(?:please|now|hi|hello|hey|(?:can|could|would|will) you|{_WISH}|let'?s|kindly)[\s,]+)*"
"""A request is a command when it begins with its verb, courtesies aside."""
_TELL: Final = r"(?:(?:tell|show) (?:me|us)[\s,:]+|explain[\s,:]+|find out[\s,:]+)?"
_WORSE: Final = (
    r"(?:worse|bad(?:ly)?|drop\w*|degrad\w*|declin\w*|drift\w*|fell|fall\w*|wrong|off|inaccurate|down|deteriorat\w*)"
)
_WAS: Final = r"(?:was|were|is|has been)"
_LIVE: Final = r"(?:live|active|in production|serving|served|deployed)"
_FILE: Final = (
    r"\.(?:onnx|pt|pth|torchscript|mar|h5|hdf5|keras|pb|tflite|pkl|pickle|joblib|bst|ubj|cbm|gguf|safetensors)"
)
_MODEL = re.compile(
    rf"(?P<mark>[`'\"])(?P<quoted>[^`'\"\n]+{_FILE})(?P=mark)|(?P<bare>/?[\w.~=+@%/-]+{_FILE})\b"
    r"|\bonnx (?:model|file)\b",
    re.IGNORECASE,
)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE | re.DOTALL)


_ACTIONS: Final[tuple[tuple[Action, re.Pattern[str]], ...]] = (
    ("adopt", _pattern(rf"{_POLITE}(?:deploy|serve|host|ship|adopt|publish|put)\b.{{0,120}}?(?:{_MODEL.pattern})")),
    ("rollback", _pattern(rf"{_POLITE}(?:roll(?:ing)?[ -]?back|revert|go back to (?:the )?(?:version|previous|last))")),
    ("promote", _pattern(rf"{_POLITE}(?:promote\b|(?:make|put|take|bring)\b.{{0,60}}\blive\b)")),
    ("retrain", _pattern(rf"{_POLITE}(?:re-?train|refit|train\b.{{0,80}}?\b(?:again|anew)\b)")),
    ("upgrade", _pattern(rf"{_POLITE}(?:upgrade|update)\b.{{0,80}}?\b(?:engine|system|mlsystem)\b")),
    (
        "history",
        _pattern(rf"{_POLITE}{_TELL}(?:what|which)\b.{{0,80}}?\b{_WAS}\b.{{0,40}}?\b{_LIVE}\b"),
    ),
    ("explain", _pattern(rf"{_POLITE}{_TELL}why\b.{{0,120}}?\b{_WORSE}\b")),
    ("explain", _pattern(rf"{_POLITE}{_TELL}what (?:happened|is wrong|went wrong) (?:to|with)\b")),
    ("explain", _pattern(rf"{_POLITE}{_TELL}how (?:is|are|was|does) .{{1,60}}\b(?:doing|performing|perform)\b")),
)
"""The first that fits is what is meant."""

_VERSION = re.compile(r"\b(?:version|v)\s*\.?\s*(\d+)\b", re.IGNORECASE)
_NEW = re.compile(r"\b(?:new|newest|latest|fresh)\b", re.IGNORECASE)
_NOT_WANTED = re.compile(r"\b(?:not|no|without|instead of|rather than)\b[^.;,]{0,40}$", re.IGNORECASE)
_UNSERVED: Final = (
    (_pattern(r"\btorch[ -]?serve\b"), "TorchServe is unmaintained and gets no security fixes"),
    (
        _pattern(r"\b(?:tf|tensorflow)[ -]serving\b"),
        "TensorFlow Serving runs TensorFlow graphs, and the delivered model is one ONNX graph",
    ),
)
_UNLEARNT: Final = (
    (
        _pattern(rf"{_POLITE}(?:cluster|segment|group)\b|\bclustering\b|\binto \w+ (?:clusters|segments|groups)\b"),
        "groups that nobody has named cannot be learnt: name the column that holds the group of each row",
    ),
    (
        _pattern(
            r"\bchat ?-?bots?\b|\bllms?\b|\blanguage models?\b|\bgpt\b"
            rf"|{_POLITE}(?:summari[sz]e|translate|write|generate|transcribe|caption)\b"
        ),
        "language is not generated here: name a column that is to be predicted from the others",
    ),
    (
        _pattern(r"\b(?:images?|photos?|pictures?|videos?|audio|speech|computer vision|object detection)\b"),
        "pictures, sound and films are not read here: give a table of what is known of each, with a target",
    ),
    (
        _pattern(rf"{_POLITE}recommend\b|\brecommend(?:er|ation)s?\b"),
        "rankings for a person are not learnt here: name a column of a table, such as whether an offer was bought",
    ),
    (
        _pattern(r"\b(?:anomal(?:y|ies)|outliers?)\b|\breinforcement learning\b|\buplift\b"),
        "there is nothing to learn from without outcomes: name the column that says which rows were such cases",
    ),
)
"""What is not made from a table with a target, and what would be needed instead."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What is wanted."""

    action: Action
    version: int | None = None
    """Which version, where one is named."""
    model: str = ""
    """Path of the model file to deploy, as it is written."""
    new_data: bool = False
    """Whether other data than before is meant, by whatever name."""


def read(request: str) -> Intent:
    """The intent of a request."""
    version = _VERSION.search(request)
    files = (found["quoted"] or found["bare"] for found in _MODEL.finditer(request))
    return Intent(
        _action(request),
        version=int(version[1]) if version else None,
        model=next(filter(None, files), ""),
        new_data=_NEW.search(request) is not None,
    )


def _action(request: str) -> Action:
    for action, pattern in _ACTIONS:
        if pattern.search(request):
            return action
    return "build"


def refused_servers(request: str) -> tuple[str, ...]:
    """Serving stacks that a request asks for and that are not delivered, in words: why not, and what is instead."""
    asked = [
        why
        for pattern, why in _UNSERVED
        if (found := pattern.search(request)) and not _NOT_WANTED.search(request[: found.start()])
    ]
    return tuple(
        f"{why}: the system serves with ONNX Runtime; where a cluster's own model server is wanted, set export.kserve"
        " for KServe, or give model.onnx to Triton"
        for why in asked
    )


def unlearnt(request: str) -> str:
    """Why a request that names no column to predict cannot be carried out, and what is needed; empty if it can be."""
    found = next((why for pattern, why in _UNLEARNT if pattern.search(request)), "")
    return f"no column to predict is named, and {found}" if found else ""


def systems_meant(request: str, systems: Mapping[str, Mapping[str, JsonValue]]) -> tuple[str, ...]:
    """Delivered systems that a request may mean; all of them where it names none.

    A whole name wins over a word of the name or of its target, the longest name over others.
    """
    lowered = request.lower()
    whole = [name for name in systems if re.search(rf"(?<![\w-]){'[-_ ]'.join(name.split('-'))}(?![\w-])", lowered)]
    if whole:
        return tuple(name for name in whole if len(name) == max(map(len, whole)))
    said = set(re.findall(r"[a-z0-9]+", lowered))
    partly = tuple(name for name, spec in systems.items() if said & _words(name, spec))
    return partly or tuple(systems)


def _words(name: str, spec: Mapping[str, JsonValue]) -> set[str]:
    """Words by which a system may be called: of its name and its target."""
    task = spec.get("task")
    target = str(task.get("target", "")) if isinstance(task, dict) else ""
    return {word for word in (*name.split("-"), *words_of(target)) if len(word) > 2}
