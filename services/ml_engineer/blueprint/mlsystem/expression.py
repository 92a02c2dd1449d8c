"""The language of `[derive]`: how an expression is written, and where in it something is wrong.

Owns the grammar and the error that points at a place: Python's expression syntax, of which numbers, texts, names
(`` `with blanks` `` in backticks), arithmetic, comparisons, `and or not`, `a if test else b`, lists after `in` and
calls are taken, nothing else. Leaves columns and types to `features.typing`, so that a spec can be checked alone.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

LONGEST: Final = 1000
"""Characters of an expression; more belongs into hooks.py."""

DEEPEST: Final = 100
"""Levels of an expression; a sum of n terms has n."""

_BACKTICKED = re.compile(r"`([^`]+)`")
_BLANK = re.compile(r"\s")

_ALLOWED: Final = (
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.IfExp,
    ast.Call,
    ast.Name,
    ast.Constant,
    ast.List,
    ast.Tuple,
    ast.Set,
)
_OPERATORS: Final = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Mod, ast.Pow, ast.FloorDiv, ast.USub, ast.UAdd, ast.Not)


class BadExpression(ValueError):  # noqa: N818 - the expression is bad, the program is fine
    """An expression that cannot be used; its text shows the expression with a mark below the place."""

    def __init__(self, source: str, reason: str, start: int = 0, end: int | None = None) -> None:
        self.source = _BLANK.sub(" ", source)
        self.reason = reason
        self.start = start
        self.end = max(len(source) if end is None else end, start + 1)
        super().__init__(f"{reason}\n    {self.source}\n    {' ' * start}{'^' * (self.end - start)}")


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression; `root` is Python's syntax tree, of which only known nodes occur."""

    source: str
    root: ast.expr
    quoted: dict[int, str]
    """Names in backticks by where they start."""

    def place(self, node: ast.AST) -> tuple[int, int]:
        """Return where a node stands in the source, in characters."""
        return _place(self.source, node)

    def name(self, node: ast.Name) -> str:
        """Return the column's name as it was written: Python itself would fold some letters."""
        start, end = self.place(node)
        return self.quoted.get(start, self.source[start:end])

    def wrong(self, reason: str, node: ast.AST) -> BadExpression:
        """Return the error that points at a node."""
        return BadExpression(self.source, reason, *self.place(node))


def parse(source: str) -> Expression:
    """Parse an expression; BadExpression says what is wrong and where."""
    if len(source) > LONGEST:
        raise BadExpression(source[:80] + "...", f"longer than {LONGEST} characters; use hooks.py for this")
    text = _BLANK.sub(" ", source)
    if not text.strip():
        raise BadExpression(text, "an expression over columns is expected, such as 'total / max(months, 1)'")
    quoted = {match.start(): match.group(1) for match in _BACKTICKED.finditer(text)}
    plain = _BACKTICKED.sub(lambda match: "_" * len(match.group()), text)
    expression = Expression(text, _tree(text, plain), quoted)
    if _depth(expression.root) > DEEPEST:
        raise BadExpression(text, f"nested more than {DEEPEST} levels deep; use hooks.py for this")
    for node in _nodes(expression.root):
        _require_known(expression, node)
    return expression


def _tree(text: str, plain: str) -> ast.expr:
    margin = len(plain) - len(plain.lstrip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # `1 if` and the like are told as errors anyway
            root = ast.parse(plain[margin:], mode="eval").body
    except SyntaxError as error:
        last = len(text.rstrip()) - 1
        start = min(margin + error.offset - 1, last) if error.offset else last  # 0: the end came too early
        raise BadExpression(text, _syntax(error), start, start + 1) from None
    except (RecursionError, MemoryError, ValueError):
        raise BadExpression(text, "nested too deeply, or not plain text; use hooks.py for this") from None
    for node in ast.walk(root):
        if isinstance(node, ast.expr):
            node.col_offset += margin
            node.end_col_offset = (node.end_col_offset or 0) + margin
    return root


def _syntax(error: SyntaxError) -> str:
    message = error.msg or "not an expression"
    message = re.sub(r"invalid syntax\. Maybe you meant.*", "an operator or an end is expected here", message)
    message = message.replace("invalid syntax", "an operator or an end is expected here")
    return f"{message}; write a column whose name is no plain word in backticks"


def _place(source: str, node: ast.AST) -> tuple[int, int]:
    """Return start and end in characters; Python counts bytes of UTF-8, and a margin has one byte a character."""
    raw = source.encode()
    first, last = getattr(node, "col_offset", 0), getattr(node, "end_col_offset", None)
    start = len(raw[:first].decode(errors="ignore"))
    return start, len(source) if last is None else len(raw[:last].decode(errors="ignore"))


def _nodes(root: ast.expr) -> Iterator[ast.expr]:
    return (node for node in ast.walk(root) if isinstance(node, ast.expr))


def _depth(root: ast.expr) -> int:
    level: list[ast.AST] = [root]
    depth = 0
    while level:
        depth += 1
        level = [child for node in level for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
    return depth


def _require_known(expression: Expression, node: ast.expr) -> None:
    """Refuse what Python has and this language does not."""
    if not isinstance(node, _ALLOWED):
        raise expression.wrong(f"{_kind(node)} is not part of the language; use hooks.py for this", node)
    if isinstance(node, (ast.BinOp, ast.UnaryOp)) and not isinstance(node.op, _OPERATORS):
        raise expression.wrong("this operator is not part of the language: + - * / // % ** and, or, not are", node)
    if isinstance(node, ast.Constant) and (node.value is None or not isinstance(node.value, (int, float, str))):
        raise expression.wrong("a number, a text, true or false is expected here", node)
    if isinstance(node, ast.Call) and (node.keywords or not isinstance(node.func, ast.Name)):
        raise expression.wrong("call a function by its name, with values in order", node)


def _kind(node: ast.expr) -> str:
    names = {
        "Attribute": "a dot after a name",
        "Subscript": "an index in brackets",
        "Lambda": "a function of your own",
        "JoinedStr": "an f-string",
        "Starred": "a star",
        "Dict": "a dictionary",
        "NamedExpr": "an assignment",
    }
    return names.get(type(node).__name__, "this")
