"""`python -m mlsystem <command>`: the table of commands, and the way in and out of a process.

Owns the arguments, the output mode, SIGTERM and the exit code. A command's function is imported only when it is
called, so that serving never loads what training needs. Commands of a system get a `Workspace` whose spec has been
checked; `profile` and `check` come before there is a usable spec and get the directory.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn, cast

from mlsystem import __version__
from mlsystem.arithmetic import pin_kernels
from mlsystem.errors import GateFailed, MlsystemError, SpecError
from mlsystem.output import Mode, Reporter
from mlsystem.stages import Workspace

Arguments = Sequence[tuple[tuple[str, ...], Mapping[str, object]]]

_INTERRUPTED = 130
_TERMINATED = 143


@dataclass(frozen=True, slots=True)
class Command:
    """One command: `module:function`, what it is for, its arguments, and what it is given."""

    target: str
    about: str
    arguments: Arguments = ()
    needs_spec: bool = True


_BY: Final = (("--by",), {"default": "", "help": "who decides", "metavar": "WHO"})
_WHY: Final = (("--why",), {"default": "", "help": "why", "metavar": "TEXT"})
_PACKAGE: Final = (
    ("--package",),
    {"type": Path, "metavar": "DIR", "help": "serve this package, without a registry"},
)

COMMANDS: Final[dict[str, Command]] = {
    "profile": Command(
        "mlsystem.data.command:profile",
        "look at data before there is a spec",
        [
            (("--data",), {"nargs": "+", "required": True, "metavar": "PATH", "help": "files or globs"}),
            (("--target",), {"default": "", "metavar": "NAME", "help": "column to predict, if it is known"}),
            (("--model",), {"type": Path, "metavar": "F", "help": "an ONNX file: tell which columns it takes"}),
        ],
        needs_spec=False,
    ),
    "check": Command("mlsystem.spec:check", "check system.toml", needs_spec=False),
    "validate": Command("mlsystem.data.command:validate", "read, type and audit the data; write schema.json"),
    "train": Command("mlsystem.train.command:train", "train and compile a model"),
    "evaluate": Command(
        "mlsystem.evaluation.command:evaluate",
        "measure the model on the holdout and decide the gates",
        [(("--latency-seconds",), {"type": float, "default": 10.0, "metavar": "S", "help": "time of one measurement"})],
    ),
    "materialize": Command("mlsystem.materialize:materialize", "put the newest row of every entity where it is served"),
    "package": Command("mlsystem.packaging:package", "put the model into the registry as a version"),
    "promote": Command(
        "mlsystem.registry.command:promote",
        "make a version the active one",
        [(("version",), {"nargs": "?", "type": int, "help": "default: the newest"}), _BY, _WHY],
    ),
    "rollback": Command(
        "mlsystem.registry.command:rollback",
        "make an earlier version the active one",
        [(("--to",), {"type": int, "metavar": "V", "help": "default: the one before"}), _BY, _WHY],
    ),
    "history": Command(
        "mlsystem.registry.command:history",
        "tell which version was live when, and why",
        [
            (
                ("--at",),
                {"default": "", "metavar": "TIME", "help": "what was live then: 2026-11-23T12:00, or with a zone"},
            )
        ],
    ),
    "drill": Command(
        "mlsystem.drill.command:drill",
        "hurt a copy of the system, and measure how it recovers",
        [
            (("--only",), {"nargs": "+", "metavar": "NAME", "help": "these scenarios alone; default: all"}),
            (("--out",), {"type": Path, "metavar": "F", "help": "the record; default: docs/drill.json"}),
        ],
    ),
    "registry": Command(
        "mlsystem.registry.command:registry",
        "look whether the registry is as it was stored, or mend what can be mended",
        [(("action",), {"choices": ("verify", "repair"), "help": "exit 4 while something is wrong"})],
    ),
    "reproduce": Command(
        "mlsystem.reproduce:reproduce",
        "make a version again from its record, and compare",
        [(("version",), {"nargs": "?", "type": int, "help": "default: the active one"})],
    ),
    "compare": Command(
        "mlsystem.compare:compare",
        "tell what two versions have in common and what not",
        [
            (("first",), {"type": int, "metavar": "A", "help": "a version"}),
            (("second",), {"type": int, "metavar": "B", "help": "the version whose holdout both are measured on"}),
        ],
    ),
    "export": Command(
        "mlsystem.export.command:export",
        "write a version in the terms of another platform",
        [
            (
                ("form",),
                {
                    "choices": ("feast", "lineage", "mlflow"),
                    "help": "a Feast repository, OpenLineage events, an MLflow model",
                },
            ),
            (("--version",), {"type": int, "metavar": "V", "help": "default: the active one"}),
            (
                ("--to",),
                {"default": "", "metavar": "WHERE", "help": "a place other than the usual one; an http(s) URL"},
            ),
        ],
    ),
    "serve": Command(
        "mlsystem.serving.command:serve",
        "answer predictions over HTTP",
        [
            (("--port",), {"type": int, "metavar": "N", "help": "default: serving.port; 0: any free one"}),
            (("--host",), {"default": "127.0.0.1", "help": "address to listen on"}),
            (("--version",), {"type": int, "metavar": "V", "help": "stay on this version"}),
            (
                ("--linger",),
                {"type": float, "default": 0.0, "metavar": "S", "help": "take requests so long after SIGTERM"},
            ),
            _PACKAGE,
        ],
    ),
    "predict": Command(
        "mlsystem.serving.command:predict",
        "predict a file of rows",
        [
            (
                ("--in",),
                {"dest": "input", "type": Path, "required": True, "metavar": "F", "help": "CSV, .jsonl, .parquet"},
            ),
            (("--out",), {"dest": "output", "type": Path, "required": True, "metavar": "F", "help": "where they go"}),
            (("--version",), {"type": int, "metavar": "V", "help": "default: the active one"}),
            (("--monitor",), {"action": "store_true", "help": "count the rows into what `monitor` judges"}),
        ],
    ),
    "erase": Command(
        "mlsystem.governance.erase:erase",
        "remove a person from captures, outcomes, online rows and snapshots",
        [(("--entity",), {"required": True, "metavar": "X", "help": "whom, as they stand in the data"}), _BY, _WHY],
    ),
    "sbom": Command(
        "mlsystem.governance.sbom:sbom",
        "write the bill of materials (CycloneDX)",
        [(("--out",), {"type": Path, "default": None, "metavar": "F", "help": "default: docs/sbom.json"})],
    ),
    "openapi": Command(
        "mlsystem.serving.command:openapi",
        "write the OpenAPI document of a version",
        [
            (("--out",), {"type": Path, "required": True, "metavar": "F", "help": "where it goes"}),
            (("--version",), {"type": int, "metavar": "V", "help": "default: the active one"}),
        ],
    ),
    "key": Command(
        "mlsystem.serving.keys:key",
        "make an API key and the entry by which a server knows it",
        [
            (("name",), {"metavar": "NAME", "help": "whose key it is"}),
            (("--scopes",), {"default": "predict", "metavar": "S+S", "help": "predict, outcomes, admin"}),
        ],
        needs_spec=False,
    ),
    "status": Command("mlsystem.status:status", "tell how the system stands: what is live, and what is wrong"),
    "eject": Command(
        "mlsystem.eject:eject",
        "take the engine over as source, in engine/",
        [(("--pack",), {"action": "store_true", "help": "make the wheel, and its hash in the locks, of engine/"})],
        needs_spec=False,
    ),
    "monitor": Command(
        "mlsystem.monitoring.command:monitor",
        "compare what the live version sees and says with its training",
        [
            (("--since",), {"default": "", "metavar": "T", "help": "an ISO time, or 2d for two days ago; default: 7d"}),
            (("--until",), {"default": "", "metavar": "T", "help": "look back from then; nobody is notified"}),
            (("--version",), {"type": int, "metavar": "V", "help": "default: the live one"}),
            (("--out",), {"type": Path, "metavar": "F", "help": "write the verdict as an HTML page"}),
            (("--fail-on-alert",), {"action": "store_true", "help": "exit 3 if something alerts"}),
        ],
    ),
    "smoke": Command(
        "mlsystem.serving.smoke:smoke",
        "ask a server what it must answer (exit 3: a gate did not pass)",
        [
            (("--url",), {"default": "", "help": "a running server; default: one is started on the newest version"}),
            (("--version",), {"type": int, "metavar": "V", "help": "the version that must answer"}),
            (("--wait",), {"type": float, "default": 10.0, "metavar": "S", "help": "for the server to be ready"}),
        ],
    ),
}


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are errors of ours, so that they too come as JSON where that was asked for."""

    def error(self, message: str) -> NoReturn:
        raise SpecError("usage", f"{message}; see `{self.prog} --help`")


def main(arguments: Sequence[str] | None = None, commands: Mapping[str, Command] = COMMANDS) -> int:
    """Run one command and return its exit code; whatever happens, the output ends with a result or an error."""
    pin_kernels(os.environ)
    words = list(sys.argv[1:] if arguments is None else arguments)
    reporter = Reporter.from_environment(_mode(words))
    signal.signal(signal.SIGTERM, _stop)
    try:
        options = _parser(commands).parse_args(words)
        with reporter.span(f"command {options.command}"):
            result = _run(commands[options.command], options, reporter)
    except MlsystemError as error:
        reporter.failure(error)
        return error.exit_code
    except KeyboardInterrupt:
        reporter.failure(MlsystemError("interrupted", "stopped from the keyboard; finished stages are kept"))
        return _INTERRUPTED
    except _Terminated:
        reporter.failure(MlsystemError("terminated", "stopped by SIGTERM; finished stages are kept"))
        return _TERMINATED
    except Exception as error:  # noqa: BLE001 - the outermost frame: a program reads the error, a person the traceback
        reporter.failure(_unforeseen(error))
        return MlsystemError.exit_code
    reporter.result(result)
    return exit_code(result)


def exit_code(result: Mapping[str, object]) -> int:
    """Return 3 when the command worked and a gate did not pass, 4 when it says itself that it is not ok."""
    if result.get("ok") is False:
        return MlsystemError.exit_code
    gates = cast("Sequence[Mapping[str, object]]", result.get("gates") or ())
    return 0 if all(gate["passed"] for gate in gates) else GateFailed.exit_code


def _run(command: Command, options: argparse.Namespace, reporter: Reporter) -> dict[str, object]:
    module, function = command.target.split(":")
    run = cast("Callable[..., dict[str, object]]", getattr(importlib.import_module(module), function))
    root = cast("Path", getattr(options, "package", None) or options.dir)
    if not root.is_dir():
        raise SpecError("no_directory", f"{root} is not a directory; give the system's directory with --dir")
    if command.needs_spec:
        return run(Workspace.open(root, reporter), options)
    return run(root.resolve(), options, reporter)


def _parser(table: Mapping[str, Command]) -> _Parser:
    common = _Parser(add_help=False)
    common.add_argument("--dir", type=Path, default=Path(), help="the system's directory; default: the current one")
    output = common.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else there")
    output.add_argument("--jsonl", action="store_true", help="progress and result as JSON lines on stdout")
    parser = _Parser(prog="python -m mlsystem", description="One machine-learning system: from data to a served model.")
    parser.add_argument("--version", action="version", version=f"mlsystem {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in table.items():
        sub = commands.add_parser(name, help=command.about, description=command.about, parents=[common])
        for flags, settings in command.arguments:
            sub.add_argument(*flags, **cast("dict[str, Any]", settings))
    return parser


def _mode(words: Sequence[str]) -> Mode:
    """Return the output mode before the arguments are parsed, since parsing may be what fails."""
    return "jsonl" if "--jsonl" in words else "json" if "--json" in words else "text"


class _Terminated(BaseException):
    """SIGTERM came: unwind, so that scratch directories and children are cleaned up."""


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends the process on the spot
    raise _Terminated


def _unforeseen(error: Exception) -> MlsystemError:
    """Say what can be done about an error that no module foresaw; a fault of the engine also leaves its traceback."""
    if isinstance(error, OSError):
        place = error.filename2 or error.filename  # of a copy: where it could not be written
        where = f" ({place})" if place else ""
        text = (
            f"{error.strerror or error}{where}; nothing half-done was kept, free the disk or grant access and run again"
        )
        return MlsystemError("system_error", text)
    if isinstance(error, MemoryError):
        return MlsystemError(
            "out_of_memory", "there is not enough memory; give fewer rows, or more memory, and run again"
        )
    traceback.print_exception(error, file=sys.stderr)
    text = f"{type(error).__name__}: {error}; this is a fault of the engine, its traceback is on stderr"
    return MlsystemError("internal_error", text)


if __name__ == "__main__":
    sys.exit(main())
