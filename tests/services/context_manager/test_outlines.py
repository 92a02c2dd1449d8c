"""What files say about themselves, and nothing else."""

import pytest

from services.context_manager.outlines import first_sentence, outline
from services.context_manager.purposes import file_purpose
from services.context_manager.reading import Content, Form


def purpose(path: str, text: str) -> str:
    return file_purpose(path, Content(Form.TEXT, b"", text), outline(path, text))


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("/a.py", '#!/usr/bin/env python\n# Copyright x\n\nr"""Takes orders. And more."""\n', "Takes orders"),
        ("/a.py", "'''\nTakes orders\nand payments.\n'''\nimport x", "Takes orders and payments"),
        ("/a.py", '"""pkg.mod\n~~~~~~~\n\nLexes MIPS."""', "Lexes MIPS"),
        ("/a.py", "def takeOrder(): ...\nclass _Hidden: ...\n", "defines takeOrder"),
        ("/a.py", "x = 1\n", "Python file"),
        ("/a.py", 'x = 1\n"""not a docstring"""\n', "Python file"),
        ("/a.js", "/**\n * Who gets a voucher.\n * @module x\n */\n", "Who gets a voucher"),
        ("/a.ts", "// Copyright 2024 Somebody\n// All rights reserved\nexport class Cart {}\n", "defines Cart"),
        ("/a.go", "// Package cart keeps carts. Yes.\npackage cart\n", "Package cart keeps carts"),
        ("/a.sql", "-- Orders and lines\nCREATE TABLE IF NOT EXISTS orders (id int);\n", "Orders and lines"),
        ("/a.sql", "create table public.orders (id int);", "defines public.orders"),
        ("/a.sh", "#!/bin/sh\n# Makes a backup.\n", "Makes a backup"),
        ("/a.md", "text\n\n# The [title](x) of `it`\n", "The title of it"),
        ("/a.md", "Title\n=====\n", "Title"),
        ("/a.rst", "Title\n-----\n", "Title"),
        ("/a.html", "<html><title>Shop</title>", "Shop"),
        ("/a.json", '{"$id": "x", "title": "Order", "type": "object"}', "Order"),
        ("/openapi.yaml", "openapi: 3.1.0\ninfo:\n  title: Checkout\n", "Checkout"),
        ("/a.yaml", "info:\n  title: Checkout\n", "YAML file"),
        ("/Makefile", "# Everything is done from here.\nall:\n", "make targets: Everything is done from here"),
        ("/Dockerfile", "FROM x\n", "container image"),
        ("/requirements-dev.txt", "pytest\n", "Python dependencies"),
        ("/.github/workflows/ci.yml", "on: push\n", "GitHub Actions workflow"),
        ("/strange.xyz", "what", "file"),
    ],
)
def test_a_purpose_is_what_the_file_says(path: str, text: str, said: str) -> None:
    """A docstring, a comment, a heading, a known name, the names it defines; else its kind."""
    assert purpose(path, text) == said


def test_a_long_statement_is_cut_at_a_word() -> None:
    """And marked."""
    said = first_sentence("word " * 100)
    assert len(said) <= 160
    assert said.endswith("word…")
