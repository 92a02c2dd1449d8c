"""`python -m tests.chaos --kills 200 --seed N`: nothing lost, doubled or stuck, every message accounted for.

Progress goes to stderr; the last line, on stdout, is one JSON object. Exit code 1 when something was found: then the
run's directory is kept. `--break` breaks the journal on purpose, to see that it is noticed.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from services._runtime import telemetry
from services._runtime.service import run as run_loop
from tests.chaos import run
from tests.chaos.schedule import ENGINEERS, KINDS, Fault, only, plan


def main() -> int:
    """The exit code."""
    given = _arguments()
    telemetry.configure_logs("error")
    options = run.Options(
        plan=_plan(given),
        seed=given.seed,
        nodes=given.nodes,
        tasks=given.tasks,
        open_tasks=given.open,
        minutes=given.minutes,
        broken=given.broken,
        keep=given.keep,
    )
    outcomes: list[run.Outcome] = []

    async def whole() -> None:
        outcomes.append(await run.run(options, _say))

    run_loop(whole())
    for name, found in outcomes[0].verdict.findings().items():
        for text in found[:20]:
            _say(f"{name}: {text}")
    sys.stdout.write(f"{json.dumps(outcomes[0].told)}\n")
    return 0 if outcomes[0].good else 1


def _plan(given: argparse.Namespace) -> Sequence[Fault]:
    if given.broken:
        return only(given.seed, ("kill-service", "freeze-service"), given.kills, pace_s=given.pace, targets=ENGINEERS)
    if given.only:
        return only(given.seed, given.only, given.kills, pace_s=given.pace, targets=given.targets)
    return plan(given.seed, given.kills, nodes=given.nodes, pace_s=given.pace)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how often something is killed with -9")
    parser.add_argument("--seed", type=int, default=1, help="chooses what goes wrong, in which order")
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1, help="nats-servers")
    parser.add_argument("--minutes", type=float, help="faults end after this time, whatever is left of the plan")
    parser.add_argument("--tasks", type=int, help="tasks at most; else as many as come to an end in time")
    parser.add_argument("--open", type=int, default=30, help="tasks at work at a time")
    parser.add_argument("--pace", type=float, default=1.0, help="seconds between two faults, on average")
    parser.add_argument("--keep", action="store_true", help="keep the directory of a run that found nothing, too")
    parser.add_argument("--only", nargs="+", choices=KINDS, help="these faults in turn, --kills of them")
    parser.add_argument(
        "--targets", nargs="+", default=(), help="with --only: the processes or durables that they meet"
    )
    parser.add_argument("--break", dest="broken", choices=("ack-first", "no-fence", "no-record"), default="")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
