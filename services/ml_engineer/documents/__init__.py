"""The documents and deployment files of a delivered system, from measured facts alone.

Pure and deterministic: the same dossier gives the same bytes, there is no clock and no file system behind them but the
templates. `locks` comes first, since a lock is an input of training; `render` and `render_repository` come last.
"""

from services.ml_engineer.documents.rendering import locks, render, render_repository

__all__ = ["locks", "render", "render_repository"]
