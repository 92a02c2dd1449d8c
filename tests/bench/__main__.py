"""`make bench`: measures what the documents promise, and says which promises hold. Exits 1 if one does not.

Times vary with the machine and its load, so each stands beside a floor measured in the same run: what the same
interpreter needs for the least that could do.
"""

import sys

from rich.console import Console
from rich.table import Table

from tests.bench import start


def main() -> int:
    """Prints every measurement; the exit code says whether all promises hold."""
    measured = start.measure()
    table = Table("what", "measured", "promised", "floor", "times the floor")
    for one in measured:
        promised = f"< {one.promised:g}" if one.promised else ""
        style = "" if one.holds else "bold red"
        table.add_row(
            one.what, f"{one.value:.2f} {one.unit}", promised, f"{one.floor:.2f}", f"{one.ratio:.1f}", style=style
        )
    Console().print(table)
    return 0 if all(one.holds for one in measured) else 1


if __name__ == "__main__":
    sys.exit(main())
