"""Words of texts, names and questions, as the full-text index wants them.

The index's own tokenizer splits at underscores and punctuation; what it cannot do is split camelCase. This
module adds those parts to a text, and turns a question into a query that no character of it can break.
"""

import re
from functools import lru_cache
from typing import Final

_WORD: Final = re.compile(r"[^\W_]+")
_PART: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_TERMS: Final = 32
"""Terms of one query: a question of several pages is searched by its first words."""
_STOP: Final = frozenset(
    _WORD.findall(
        "a about above after all also am an and any are as at be because been before being below but by can could"
        " did do does doing each etc existing file files find for from get give had has have having here how i if"
        " in information initial into is it its let located location me more my need needed needs new no not now"
        " of on only or other our out over overview own please provide relevant require required should show so"
        " some such tell than that the their them then there these they this to under up us use used uses using"
        " very want was we were what when where which while who why will with would you your briefing context"
        " project question happen happens defined implemented lives"
    )
)


def camel_parts(text: str) -> str:
    """The parts of every mixed-case word in `text`, each word once: `getUserId` -> `get User Id`."""
    return " ".join(filter(None, map(_parts, dict.fromkeys(_WORD.findall(text)))))


def searchable(text: str) -> str:
    """`text` followed by the parts of its camel-case words."""
    parts = camel_parts(text)
    return f"{text}\n{parts}" if parts else text


def terms(question: str) -> tuple[str, ...]:
    """The words worth searching for, lower case, each once, in the order of the question."""
    found = dict[str, None]()
    for word in _WORD.findall(question):
        for term in (word, *_parts(word).split()):
            lowered = term.lower()
            if lowered not in _STOP and (len(lowered) > 1 or not lowered.isascii()):
                found.setdefault(lowered)
    return tuple(found)[:_TERMS]


def any_of(words: tuple[str, ...]) -> str:
    """An FTS5 query that matches any of `words`, which hold no quotes since `terms` made them."""
    return " OR ".join(f'"{word}"' for word in words)


@lru_cache(maxsize=30_000)
def _parts(word: str) -> str:
    """The parts of a mixed-case word, with blanks between; empty for any other word. A code base repeats its words."""
    if word.islower() or word.isupper() or word.istitle() or word.isdigit():
        return ""
    return " ".join(_PART.findall(word))
