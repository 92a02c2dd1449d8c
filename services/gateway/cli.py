"""`mlmesh`: the words, their arguments, and the way out of a process.

Owns parsing, the table of words, and what an error means for the exit code. A word's module is imported when it is
used, and nothing else is before: usage comes at once. Left out: what the words do (commands/).
"""

import argparse
import importlib
import sys
import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn, cast

Argument = tuple[tuple[str, ...], Mapping[str, Any]]

_ERROR, _USAGE, _CANCELED = 1, 2, 5  # as in exits.py, which takes a quarter of a second to import


@dataclass(frozen=True, slots=True)
class Word:
    """A command: what it is for and what it takes."""

    about: str
    arguments: Sequence[Argument]


class UsageError(Exception):
    """A command line that cannot be parsed."""


def _argument(*flags: str, **settings: Any) -> Argument:
    return flags, settings


_TASK: Final = _argument("task", metavar="TASK", help="id of the task")
_WORKSPACE: Final = _argument(
    "--workspace", default="", metavar="DIR", help="the project worked on, with the home .mlmesh; default: here"
)
_WAIT: Final = _argument(
    "--wait",
    action=argparse.BooleanOptionalAction,
    default=None,
    help="follow the task afterwards; default: only where no mesh runs and this command has to be it",
)
_REQUEST: Final = (
    _WORKSPACE,
    _argument("--answers", metavar="FILE", help="TOML file with answers: [slot] tables, field = value"),
    _argument("--accept-defaults", action="store_true", help="assume the default instead of asking"),
    _argument("--time-budget", default="", metavar="60s", help="wall time of the search for a model: 60s, 2m, 1h"),
    _argument("--approval", choices=("auto", "design"), default="auto", help="design: a person approves it first"),
)

WORDS: Final[dict[str, Word]] = {
    "run": Word(
        "carry a request to its end, with a mesh of its own where none runs",
        (
            _argument("request", nargs="?", metavar="REQUEST", help="what is wanted, in plain words"),
            *_REQUEST,
            _argument("--mind", choices=("playbook",), help="who engineers"),
            _argument("--task", metavar="ID", help="id of a new task, or the task to go on with"),
        ),
    ),
    "up": Word(
        "run the embedded mesh until Ctrl-C",
        (_argument("--port", type=int, metavar="N", help="port of the bus; default 4222; 0: any free one"), _WORKSPACE),
    ),
    "submit": Word(
        "give a running mesh a request; prints the task's id",
        (
            _argument("request", metavar="REQUEST", help="what is wanted, in plain words"),
            *_REQUEST,
            _argument("--task", metavar="ID", help="id of the task; default: a new one"),
        ),
    ),
    "answer": Word(
        "answer what a task asks",
        (
            _TASK,
            _argument("pairs", nargs="*", metavar="ID=VALUE", help="such as nfr.latency='20 ms'"),
            _argument("--answers", metavar="FILE", help="TOML file with answers"),
            _WAIT,
            _WORKSPACE,
        ),
    ),
    "approve": Word(
        "approve a design that waits",
        (
            _TASK,
            _argument("--refuse", action="store_true", help="refuse it; the task ends"),
            _argument("--comment", default="", metavar="TEXT", help="why"),
            _WAIT,
            _WORKSPACE,
        ),
    ),
    "watch": Word("show a task as it happens", (_TASK, _WORKSPACE)),
    "tasks": Word("list the tasks, and what waits for you", (_WORKSPACE,)),
    "show": Word("print a task's timeline", (_TASK, _WORKSPACE)),
    "cancel": Word(
        "end a task",
        (
            _TASK,
            _argument("--reason", default="", metavar="TEXT", help="why"),
            _argument("--wait", action="store_true", help="wait for the end"),
            _WORKSPACE,
        ),
    ),
    "serve": Word(
        "boot the server of a delivered system",
        (
            _argument("system", metavar="SYSTEM", help="its name under ml/, or its directory"),
            _argument("--port", type=int, metavar="N", help="default: the system's; 0: any free one"),
            _WORKSPACE,
        ),
    ),
    "systems": Word("list the delivered systems: what is live, and how each is", (_WORKSPACE,)),
    "upgrade": Word(
        "give a delivered system the engine of this mesh; what you edited stays",
        (_argument("system", metavar="SYSTEM", help="its name under ml/, or its directory"), _WORKSPACE),
    ),
    "dead": Word(
        "list, show, redrive or discard messages that nobody could process",
        (
            _argument("action", choices=("list", "show", "redrive", "discard"), help="what to do with dead letters"),
            _argument("seqs", nargs="*", type=int, metavar="SEQ", help="the letters' numbers, as `list` tells them"),
            _argument("--all", dest="every", action="store_true", help="every letter that the filters leave"),
            _argument("--task", default="", metavar="TASK", help="letters about this task alone"),
            _argument("--durable", default="", metavar="NAME", help="letters of this reader alone"),
            _argument("--settled", action="store_true", help="list: what became of letters, instead"),
            _argument("--yes", action="store_true", help="discard --all without being asked"),
            _WORKSPACE,
        ),
    ),
    "provision": Word(
        "make the bus's streams and durables, or with --keys the keys and permissions of every role",
        (
            _argument("--keys", metavar="DIR", help="make each role's seed file there, and the server's permissions"),
            _argument(
                "--nats-conf",
                default="",
                metavar="FILE",
                help="where the permissions go, for nats.conf to include; default: DIR/nats/authorization.conf",
            ),
        ),
    ),
    "doctor": Word("look at everything the mesh stands on", (_WORKSPACE,)),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    try:
        options = vars(parser().parse_args(words))
    except UsageError as error:
        return _failed(str(error), _USAGE, as_json=as_json)
    return _execute(options.pop("word"), options, as_json=options.pop("json"))


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    common = _Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else there")
    whole = _Parser(
        prog="mlmesh",
        description="From a request in plain words to a trained, served and reversible model.",
        epilog="exit codes: 0 success, 1 error or no bus, 2 usage, 3 partial, 4 failed, 5 canceled, 6 waiting",
    )
    found = whole.add_subparsers(dest="word", required=True, metavar="WORD")
    for name, word in WORDS.items():
        sub = found.add_parser(name, help=word.about, description=word.about, parents=[common])
        for flags, settings in word.arguments:
            sub.add_argument(*flags, **settings)
    return whole


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are errors, so that they too come as JSON where that was asked for."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see: {self.prog} --help")


def _execute(word: str, options: Mapping[str, Any], *, as_json: bool) -> int:
    from services._runtime import service
    from services._runtime.errors import MeshError
    from services.gateway.exits import Usage
    from services.gateway.output import Output

    module = importlib.import_module(f"services.gateway.commands.{word}")
    execute = cast("Callable[[Any, Output], Coroutine[Any, Any, int]]", module.execute)
    codes: list[int] = []

    async def whole() -> None:
        codes.append(await execute(module.Options(**options), Output(as_json)))

    try:
        service.run(whole())
    except Usage as error:
        return _failed(str(error), _USAGE, as_json=as_json)
    except MeshError as error:
        return _failed(str(error), _ERROR, as_json=as_json)
    except KeyboardInterrupt:
        return _failed("stopped", _CANCELED, as_json=as_json)
    except OSError as error:
        return _failed(_system(error), _ERROR, as_json=as_json)
    except Exception as error:  # noqa: BLE001 - a script that asked for JSON gets it, a person the traceback
        traceback.print_exc()
        return _failed(f"internal error: {type(error).__name__}: {error}", _ERROR, as_json=as_json)
    return codes[0]


def _failed(text: str, code: int, *, as_json: bool) -> int:
    from services.gateway.output import Output

    Output(as_json).error(text, code)
    return code


def _system(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}: free space, or grant access, and run the same command again"


if __name__ == "__main__":
    sys.exit(main())
