"""What a check says while it runs."""

import sys


def say(text: str) -> None:
    """A line on standard output, seen at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
