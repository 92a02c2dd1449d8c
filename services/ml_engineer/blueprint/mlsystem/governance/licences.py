"""Under which licences the installed packages are, as SPDX names where they say so.

Owns reading them from a package's metadata, and which of them ask that what is built on them be shared (copyleft).
Leaves judging whether that matters to people.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import metadata
from typing import Final

_CLASSIFIED: Final = {
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "zlib/libpng License": "Zlib",
}
"""Trove classifiers that name one licence; `BSD License` does not say which."""
_WRITTEN: Final = {
    "apache 2.0": "Apache-2.0",
    "apache-2.0": "Apache-2.0",
    "bsd-3-clause": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd-2-clause": "BSD-2-Clause",
    "mit": "MIT",
    "mit license": "MIT",
}
_COPYLEFT: Final = re.compile(r"\b(A?GPL|LGPL|MPL|EPL|EUPL|CDDL|OSL|CC-BY-SA|GNU|Mozilla)", re.IGNORECASE)
_LONGEST_NAME: Final = 60


@dataclass(frozen=True, slots=True)
class Licence:
    """What a package says about itself."""

    expression: str
    """An SPDX expression; empty if only `name` is known."""
    name: str
    """The package's own words; empty if it has none."""

    @property
    def shown(self) -> str:
        """What to show people."""
        return self.expression or self.name or "not said"

    @property
    def copyleft(self) -> bool:
        """Whether something in it asks for sharing; `OR` with another licence counts, a person has to choose."""
        return _COPYLEFT.search(self.shown) is not None


def licence_of(package: str) -> Licence | None:
    """Return the licence of an installed package, None if it is not installed here."""
    try:
        found = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        return None
    if "License-Expression" in found:
        return Licence(found["License-Expression"], "")
    written = " ".join(" ".join(found.get_all("License") or []).split())
    classified = [line.rsplit("::", 1)[-1].strip() for line in found.get_all("Classifier") or [] if "License" in line]
    known = [_CLASSIFIED[name] for name in classified if name in _CLASSIFIED]
    if known:
        return Licence(" OR ".join(known), "")
    if written.lower() in _WRITTEN:
        return Licence(_WRITTEN[written.lower()], "")
    short = written if 0 < len(written) <= _LONGEST_NAME else ", ".join(classified)
    return Licence("", short)
