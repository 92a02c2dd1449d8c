"""The outline of a text: its title, what it says about itself first, and the names it defines.

Regular expressions, no parsers: an outline is wanted of every file in every language in microseconds, and what
does not match is simply not there.
"""

import re
from dataclasses import dataclass
from typing import Final

from services.context_manager.paths import name_of, suffix_of

_PYTHON: Final = frozenset({".py", ".pyi"})
_MARKDOWN: Final = frozenset({".md", ".markdown", ".mdx", ".qmd"})
_C_LIKE: Final = frozenset(
    {".js", ".mjs", ".cjs", ".jsx", ".ts", ".tsx", ".java", ".kt", ".go", ".rs", ".c", ".h", ".cc", ".cpp", ".hpp"}
    | {".cs", ".scala", ".swift", ".php", ".proto", ".css", ".scss", ".gradle", ".dart", ".vue", ".svelte"}
)
_HASHED: Final = frozenset(
    {".sh", ".bash", ".zsh", ".yaml", ".yml", ".toml", ".rb", ".pl", ".r", ".jl", ".tf", ".cfg", ".conf", ".ini", ".mk"}
    | {".properties", ".ps1", ".graphql", ".ex", ".exs"}
)
_DASHED: Final = frozenset({".sql", ".lua", ".hs", ".elm"})

_DOCSTRING: Final = re.compile(r"\A(?:[ \t]*(?:#[^\n]*)?\n)*[rRuU]{0,2}(\"\"\"|''')(.*?)\1", re.DOTALL)
_HEADING: Final = re.compile(r"^#{1,3}[ \t]+(.+?)[ \t]*#*$", re.MULTILINE)
_UNDERLINED: Final = re.compile(r"^([^\n]{3,120})\n(?:={3,}|-{3,}|~{3,}|\*{3,})[ \t]*$", re.MULTILINE)
_RULER: Final = re.compile(r"^[ \t]*([=~*#^-])\1{3,}[ \t]*$", re.MULTILINE)
_TITLE: Final = re.compile(r"<title[^>]*>([^<]{1,200})</title>", re.IGNORECASE)
_JSON_TITLE: Final = re.compile(
    r"\A\s*\{(?:[^{}\[\]]|\{[^{}]*\})*?\"(?:title"
    r"|description)\"\s*:\s*\"([^\"\n]{3,200})\""
)
_OPENAPI: Final = re.compile(r"^(?:openapi|swagger):", re.MULTILINE)
_YAML_TITLE: Final = re.compile(r"^[ \t]+title:[ \t]*[\"']?([^\"'\n#]{3,120})", re.MULTILINE)
_BLOCK: Final = re.compile(r"\A\s*(?:<\?php\s*)?/\*+(.*?)\*/", re.DOTALL)
_SLASHES: Final = re.compile(r"\A\s*((?://[^\n]*\n?)+)")
_HASHES: Final = re.compile(r"\A(?:#![^\n]*\n)?\s*((?:#[^\n]*\n?)+)")
_DASHES: Final = re.compile(r"\A\s*((?:--[^\n]*\n?)+)")
_LEGAL: Final = re.compile(
    r"copyright|licen[cs]e|spdx|all rights reserved|eslint|prettier|@ts-|-\*-|vim:|coding[:=]|yaml-language-server"
    r"|auto-?generated|do not edit|pylint|noqa|type: ignore|shellcheck|https?://\S+$|^!",
    re.IGNORECASE,
)
_PYTHON_NAMES: Final = re.compile(r"^[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+(\w+)", re.MULTILINE)
_SQL_NAMES: Final = re.compile(
    r"\bcreate\s+(?:or\s+replace\s+)?(?:temp(?:orary)?\s+)?(?:table|view|materialized\s+view|function|procedure)\s+"
    r"(?:if\s+not\s+exists\s+)?[\"`\[]?([\w.]+)",
    re.IGNORECASE,
)
_OTHER_NAMES: Final = re.compile(
    r"^[ \t]*(?:(?:export|default|public|private|protected|static|abstract|pub|final|async)[ \t]+)*"
    r"(?:func|fn|function|class|interface|struct|enum|trait|type|message|service|const|object)"
    r"[ \t*]+(?:\([^)\n]*\)[ \t]*)?([A-Za-z_]\w*)",
    re.MULTILINE,
)
_NAMES: Final = 400
_SAID: Final = 160
"""Characters of a purpose; what is longer is cut at a word."""
_LINE: Final = 400
"""Characters of a line that are looked at."""
_HEAD: Final = 20_000
"""What a file says about itself stands in its first characters."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What a text says of itself. Empty strings where it says nothing."""

    title: str
    """The first heading."""
    statement: str
    """The first sentence of its docstring or of the comment it begins with."""
    names: tuple[str, ...]
    """What it defines, in order."""


def outline(path: str, text: str) -> Outline:
    """The outline of `text` in the language that the name in `path` tells."""
    suffix = suffix_of(path)
    head = "\n".join(line[:_LINE] for line in text[:_HEAD].split("\n"))
    return Outline(_title(suffix, head), _statement(suffix, path, head), _names(suffix, text))


def first_sentence(text: str) -> str:
    """The first sentence of `text` on one line, at most 160 characters. An underlined title is passed over."""
    paragraphs = [part for part in re.split(r"\n[ \t]*\n", text.strip()) if part.strip()]
    spoken = next(
        (part for part in paragraphs if not _UNDERLINED.search(part + "\n")), paragraphs[0] if paragraphs else ""
    )
    line = " ".join(_RULER.sub("", spoken).split())
    sentence = re.split(r"(?<=[.!?])\s+(?=[A-Z\"'`(])", line, maxsplit=1)[0].rstrip(".")
    return shortened(sentence)


def shortened(text: str, limit: int = _SAID) -> str:
    """`text` within `limit` characters, cut at a word and marked."""
    if len(text) <= limit:
        return text
    return text[: limit - 1].rsplit(" ", 1)[0].rstrip(" ,;:") + "…"


def _title(suffix: str, head: str) -> str:
    if suffix in _MARKDOWN:
        found = _HEADING.search(head) or _UNDERLINED.search(head)
    elif suffix == ".rst":
        found = _UNDERLINED.search(head)
    elif suffix in {".html", ".htm"}:
        found = _TITLE.search(head)
    elif suffix == ".json":
        found = _JSON_TITLE.search(head)
    elif suffix in {".yaml", ".yml"} and _OPENAPI.search(head):
        found = _YAML_TITLE.search(head)
    else:
        return ""
    return shortened(plain(found[1])) if found else ""


def plain(markup: str) -> str:
    """Markdown or HTML of one line as a reader sees it: no links, pictures, emphasis, tags or marks of code."""
    return without_links(markup).replace("`", "")


def without_links(markup: str) -> str:
    """As `plain`, but what is marked as code stays marked."""
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", markup)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"<[^>]{1,200}>", "", text)
    text = re.sub(r"(\*\*|(?<!\w)__(?=\w)|(?<=\w)__(?!\w)|(?<![\w`])[*_](?=\w)|(?<=\w)[*_](?![\w`]))", "", text)
    return " ".join(text.split())


def _statement(suffix: str, path: str, head: str) -> str:
    if suffix in _PYTHON:
        found = _DOCSTRING.match(head)
        return first_sentence(found[2]) if found else ""
    if suffix in _C_LIKE:
        block = _BLOCK.match(head)
        return _comment(block[1], "*") if block else _marked(_SLASHES, head, "/!")
    if suffix in _HASHED or name_of(path) in {"Makefile", "Dockerfile", "Jenkinsfile", "Justfile"}:
        return _marked(_HASHES, head, "#!")
    return _marked(_DASHES, head, "-") if suffix in _DASHED else ""


def _marked(pattern: re.Pattern[str], head: str, marks: str) -> str:
    found = pattern.match(head)
    return _comment(found[1], marks) if found else ""


def _comment(block: str, marks: str) -> str:
    """The first sentence of a comment that is about the file, not about its licence or its tools."""
    lines = [line.strip().lstrip(marks).strip() for line in block.strip().split("\n")]
    text = "\n".join(lines).strip()
    if _LEGAL.search(text.split("\n\n", 1)[0]) or not re.search(r"[A-Za-z]{3}", text) or text.startswith("@"):
        return ""
    return first_sentence(re.split(r"^@", text, maxsplit=1, flags=re.MULTILINE)[0])


def _names(suffix: str, text: str) -> tuple[str, ...]:
    if suffix in _PYTHON:
        pattern = _PYTHON_NAMES
    elif suffix == ".sql":
        pattern = _SQL_NAMES
    elif suffix in _C_LIKE:
        pattern = _OTHER_NAMES
    else:
        return ()
    return tuple(dict.fromkeys(match[1] for match in pattern.finditer(text)))[:_NAMES]
