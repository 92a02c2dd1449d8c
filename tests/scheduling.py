"""Which worker of a parallel run gets which test: whichever is free, but a module that shares a fixture stays whole.

Otherwise each worker would make the module's fixture for its share of the tests: a run of real services, a trained
system.
"""

from functools import lru_cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

_SHARES = 'scope="module"'


class ModulesWhole(LoadScopeScheduling):
    """The scope of a test is its module where that has a fixture for all of its tests, else the test alone."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return module if _shares(self.config.rootpath / module) else nodeid


@lru_cache
def _shares(module: Path) -> bool:
    return _SHARES in module.read_text(encoding="utf-8")
