"""`python -m tests.bench.serving`: the delivered server, everything on, beside a bare floor and other model servers.

Exits 1 when a promise does not hold. All serve the same model to the same rows; every round measures each server once,
so that a busy machine is busy for all.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.bench.mesh import place
from tests.bench.serving import told
from tests.bench.serving.contender import Contender, Running, floor, ours, peer, running
from tests.bench.serving.driving import p99_ms, saturate
from tests.bench.serving.figures import Figures
from tests.bench.serving.promises import judged
from tests.bench.serving.system import Served, served
from tests.environments import NotToBeHadError

_PEERS: Final = ("mlserver", "bentoml", "mlflow")
_LADDER: Final = (
    ("long", "everything on, every request through ASGI: task, time limit, routes", ("short",)),
    ("all", "everything on", ("",)),
    ("capture", "without captures", ("capture",)),
    ("sketches", "... and without sketches", ("capture", "sketches")),
    ("recorder", "... and without the recorder's thread", ("recorder",)),
    ("metrics", "... and without metrics", ("recorder", "metrics")),
    ("validation", "... and without validation: no value is looked at", ("recorder", "metrics", "validation")),
)
_SHORT_S: Final = 3
_TURNS: Final = 3
"""How often the floor and ours are measured in a round, in turns: what a busy machine takes, it takes from both."""

_UNWANTED: Final = ("pandas", "sklearn", "lightgbm", "scipy", "onnx", "duckdb", "joblib", "cloudpickle", "dill")


def main() -> int:
    """Measures what was asked for; the exit code says whether all promises hold."""
    options = _options()
    system = served(fresh=options.fresh)
    figures = Figures(unwanted=_loaded(_UNWANTED))
    figures.add("mlsystem", "installed_mb", place.closure_mb(_serve_requirements()))
    with tempfile.TemporaryDirectory() as folder:
        contenders = [floor(), ours("mlsystem", "**mlsystem**, everything on"), *_peers(options.peers, figures)]
        _compare(contenders, system, figures, options, Path(folder))
        if options.ladder:
            _ladder(system, figures, options.rounds, Path(folder))
    command = f"`python -m tests.bench.serving {shlex.join(sys.argv[1:])}`".replace(" `", "`")
    facts = ", ".join(f"{name} {value}" for name, value in place.machine().items() if name != "nats-server")
    headline = (
        f"{command}, {datetime.now(UTC):%Y-%m-%d}, medians of {options.rounds} rounds, ranges in brackets. {facts}."
    )
    text = told.markdown(figures, headline)
    if options.readme:
        told.write(text)
    if options.json:
        values = {name: dict(found) for name, found in figures.values.items()}
        promises = [asdict(promise) for promise in judged(figures)]
        options.json.write_text(json.dumps({"values": values, "promises": promises}, indent=1))
    sys.stdout.write(text)
    return 0 if all(promise.holds for promise in judged(figures)) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.serving", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of one measurement")
    parser.add_argument("--peers", default=",".join(_PEERS), help=f"of {','.join(_PEERS)}; empty: none")
    parser.add_argument("--no-ladder", dest="ladder", action="store_false", help="leave out what each part costs")
    parser.add_argument("--fresh", action="store_true", help="train the model again")
    parser.add_argument("--readme", action="store_true", help="put the tables into README.md")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every round's value")
    return parser.parse_args()


def _peers(names: str, figures: Figures) -> list[Contender]:
    found: list[Contender] = []
    for name in filter(None, names.split(",")):
        try:
            found.append(peer(name))
        except NotToBeHadError as error:
            figures.missing[name] = str(error)
    return found


def _compare(
    contenders: Sequence[Contender], system: Served, figures: Figures, options: argparse.Namespace, folder: Path
) -> None:
    """Every round: the floor and ours side by side, measured in turns; then each peer by itself."""
    for contender in contenders:
        figures.about[contender.name] = contender.about
        if contender.environment is not None:
            figures.add(contender.name, "installed_mb", contender.environment.size_mb)
    for _ in range(options.rounds):
        with ExitStack() as stack:
            pair = [stack.enter_context(running(one, system, folder / one.name)) for one in contenders[:2]]
            _measure(pair, figures, (options.seconds, _TURNS), folder)
        for contender in contenders[2:]:
            with running(contender, system, folder / contender.name) as server:
                _measure([server], figures, (options.seconds, 1), folder)


def _measure(servers: Sequence[Running], figures: Figures, plan: tuple[int, int], folder: Path) -> None:
    """Measure servers in so many turns of so many seconds, `plan` being (seconds, turns)."""
    seconds, turns = plan
    for server in servers:
        figures.add(server.contender.name, "start_s", server.start_s)
        saturate(server, 1, folder)  # not measured: the first second is slower
    for _ in range(turns):
        for server in servers:
            given = saturate(server, seconds, folder)
            figures.add(server.contender.name, "rps", given.rps)
            figures.add(server.contender.name, "cpu_us", given.cpu_us)
        for server in servers:
            reference = server.contender.name if server.contender.environment else "floor"
            rate = figures.median(reference, "rps") / 2
            figures.add(server.contender.name, "p99_ms", p99_ms(server, rate, seconds))
    for server in servers:
        figures.add(server.contender.name, "resident_mb", server.resident_mb())


def _ladder(system: Served, figures: Figures, rounds: int, folder: Path) -> None:
    """Every rung in every round, all of them started once."""
    with ExitStack() as stack:
        rungs = [ours(name, about, *parts) for name, about, parts in _LADDER]
        servers = [stack.enter_context(running(rung, system, folder / f"rung-{rung.name}")) for rung in rungs]
        figures.rungs = [rung.name for rung in rungs]
        figures.about |= {rung.name: rung.about for rung in rungs}
        for server in servers:
            saturate(server, 1, folder)
        for _ in range(rounds):
            for server in servers:
                given = saturate(server, _SHORT_S, folder)
                figures.add(server.contender.name, "rps", given.rps)
                figures.add(server.contender.name, "cpu_us", given.cpu_us)


def _serve_requirements() -> list[str]:
    """What a serving image installs, as the engine's own project says; of extras, what they bring."""
    return ["numpy", "msgspec", "psycopg-binary", *place.engine_needs("serve")]


def _loaded(names: Sequence[str]) -> str:
    """Which of these a process that serves has loaded."""
    script = (
        "import sys, mlsystem.__main__, mlsystem.serving.command, mlsystem.serving.server\n"
        f"print(','.join(name for name in {list(names)!r} if name in sys.modules))"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
