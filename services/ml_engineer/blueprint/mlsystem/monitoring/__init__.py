"""What a served model sees and says, held against what it was trained on; quality once outcomes arrive.

`profile` and `sketch` are what a server needs; they and everything else but `reference` run where the server runs.
"""

from typing import Final

LAST_VERDICT: Final = "monitor/last"
"""Name of the fact that holds the last verdict: `at`, `version`, `standing`, `cause`, `alerts`."""
