"""Online rows: the newest known features of every entity, so that a caller need not send them.

`materialize` (train side) writes them into the state, `fill` completes a caller's rows from them. Owns their names
there.
"""

from __future__ import annotations

from typing import Final

TABLE: Final = "features"
"""Table of the state's online rows."""

WATERMARK: Final = "online/watermark"
"""Fact of the state: until when the data had been seen when the rows were written, and what was written."""
