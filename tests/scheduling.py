"""Which worker of a parallel run gets which test: whichever is free, but a module that shares what it made stays whole.

Otherwise each worker would make the module's fixture for its share of the tests: a run of real services, a trained
system.
"""

import re
from functools import lru_cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

_SHARES = re.compile(r'scope="module"|^@cache$', re.MULTILINE)


class ModulesWhole(LoadScopeScheduling):
    """The scope of a test is its module where that makes something for all of its tests, else the test alone."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return module if _shares(self.config.rootpath / module) else nodeid


@lru_cache
def _shares(module: Path) -> bool:
    return _SHARES.search(module.read_text(encoding="utf-8")) is not None
