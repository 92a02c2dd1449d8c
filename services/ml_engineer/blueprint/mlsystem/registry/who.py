"""Who acts: the name that goes into the history when nobody gives one."""

from __future__ import annotations

import getpass
import os


def whoami() -> str:
    """Return the account's name, or its number where it has no name, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
