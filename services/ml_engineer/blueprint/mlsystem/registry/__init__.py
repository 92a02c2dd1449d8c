"""Versions of a model, which of them is live, and how that came to be.

`registry` holds the port: packages and a numbered, hash-chained history in one object store (`store`: a directory or
a bucket). `ledger` folds the history, `chain` protects it, `derived` are files made from it, `care` finds and mends
damage, `command` is the command line.
"""

from mlsystem.registry.command import registry_of
from mlsystem.registry.ledger import NO_HASH, Entry, Event, FileRef, Ledger, Note
from mlsystem.registry.registry import Move, Registry
from mlsystem.registry.store import Objects
from mlsystem.registry.who import whoami

__all__ = [
    "NO_HASH",
    "Entry",
    "Event",
    "FileRef",
    "Ledger",
    "Move",
    "Note",
    "Objects",
    "Registry",
    "registry_of",
    "whoami",
]
