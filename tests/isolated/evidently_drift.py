"""Our drift beside evidently's: 100,000 rows of 30 columns in at most 0.2 s and a twentieth of its time."""

from collections.abc import Sequence

from tests.bench.drift import speed
from tests.environments import NotToBeHadError
from tests.isolated.saying import say


def run(_arguments: Sequence[str]) -> int:
    """Measures both and says what came out; 0 if the promise holds."""
    try:
        both = speed.measure()
    except NotToBeHadError as why:
        say(f"evidently cannot be installed here: {why}")
        return 2
    say(
        f"mlsystem {both.ours.seconds:.3f} s, evidently {both.version} {both.evidently.seconds:.2f} s:"
        f" {both.ratio:.0f} times as long; both found {both.ours.drifted} and {both.evidently.drifted} of 5 columns"
    )
    return 0 if both.holds else 1
