"""What kind of place a path is, and how much what is said there weighs.

A latency in a test, an example or a changelog is rarely the project's own requirement, and a lock file is
rarely what a question is about.
"""

import re
from typing import Final

_TEST: Final = re.compile(
    r"(?:^|/)(?:tests?|__tests__|specs?|testdata|fixtures?|mocks?|e2e)/|(?:^|/)(?:test_[^/]*|[^/]*_test"
    r"|conftest)\.\w+$|\.(?:test|spec)\.\w+$"
)
_EXAMPLE: Final = re.compile(
    r"(?:^|/)(?:examples?|samples?|demos?|tutorials?|templates?|cookbook|playground)(?:/|\.\w+$)"
)
_HISTORY: Final = re.compile(
    r"(?:^|/)(?:changelog|changes|history|news|release[-_]?notes?|releases|upgrading|migration)(?:[-_.][^/]*)?(?:/|$)"
)
_VENDORED: Final = re.compile(
    r"(?:^|/)(?:vendor|vendored|third[-_]?party|site-packages|bower_components|dist|build|out|target)/"
)
_BENCHMARK: Final = re.compile(r"(?:^|/)(?:bench(?:marks?)?|perf|load[-_]?tests?)(?:/|[^/]*$)")
_DOCUMENTS: Final = re.compile(r"(?:^|/)(?:docs?|documentation|adrs?|wiki)/")
_GENERATED: Final = re.compile(
    r"(?:^|/)(?:package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-lock\.yaml|go\.sum|[^/]+\.lock"
    r"|[^/]+\.min\.(?:js|css)"
    r"|[^/]+\.(?:map|snap))$"
)
_WEIGHTS: Final = (
    (_VENDORED, 0.2),
    (_TEST, 0.3),
    (_HISTORY, 0.3),
    (_BENCHMARK, 0.3),
    (_EXAMPLE, 0.5),
    (_DOCUMENTS, 0.95),
)
_DEEP: Final = 2
"""Directories below which a file speaks for a part of the project rather than for all of it."""


def is_generated(path: str) -> bool:
    """Whether a tool wrote the file, so that its text helps nobody to find anything."""
    return _GENERATED.search(path.lower()) is not None


def weight(path: str) -> float:
    """How much a statement at `path` counts, 0 to 1."""
    lowered = path.lower()
    found = next((weight for pattern, weight in _WEIGHTS if pattern.search(lowered)), 1.0)
    return found * (0.95 if lowered.count("/") - 1 > _DEEP else 1.0)
