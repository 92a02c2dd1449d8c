"""The objects of a registry: a directory or a bucket, through one API (obstore).

Owns which store a URL means, and what a store fails with: one error that says what to do. The one promise that the
registry stands on is `create`: of two writers of one object exactly one is told that it wrote. A directory, S3 and
memory are tested for it; Google's and Azure's stores promise the same and go through the same code untested.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, MemoryStore, from_url

from mlsystem.errors import RegistryError, SpecError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_BUCKET: Final = re.compile(r"(s3|s3a|gs|az|abfs|abfss)://.+")
_CLIENT: Final[dict[str, Any]] = {"connect_timeout": "3s", "timeout": "60s"}
_RETRY: Final[dict[str, Any]] = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}

_READERS: Final = 16
"""Objects that are read at once: a bucket answers each one late, and many in the same time."""

_WORDS: Final = 400
"""Characters of a store's complaint that are repeated."""


def open_store(url: str, root: Path) -> ObjectStore:
    """Return the store at `url`: a directory, relative to `root` and made if it is missing, or `s3://bucket/prefix`.

    Credentials, region and endpoint of a bucket come from the usual variables (`AWS_*`). Raises: SpecError,
    RegistryError.
    """
    with told_plainly():
        if "://" not in url:
            return LocalStore(prefix=root / url, mkdir=True)
        if not _BUCKET.fullmatch(url):
            kind = url.partition("://")[0]
            raise SpecError(
                "bad_registry_url", f"registry.url: {kind}:// is no store; give a directory or s3://bucket/prefix"
            )
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        plain = endpoint.startswith("http://") and url.startswith("s3")
        given: dict[str, Any] = {"endpoint": endpoint} if endpoint and url.startswith("s3") else {}
        opened = cast("Callable[..., ObjectStore]", from_url)  # its overloads tell the kinds of URL apart
        return opened(url, config=given, client_options={**_CLIENT, "allow_http": plain}, retry_config=_RETRY)


class Objects:
    """The objects of one store by their path."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.near = isinstance(store, LocalStore | MemoryStore)
        """Whether a look costs next to nothing."""
        self._folder = Path(str(store.prefix)) if isinstance(store, LocalStore) else None

    def read(self, path: str) -> bytes | None:
        """Return an object, None if there is none."""
        with told_plainly():
            try:
                return bytes(obstore.get(self._store, path).bytes())
            except FileNotFoundError:
                return None

    def read_all(self, paths: Sequence[str]) -> Iterator[bytes]:
        """Yield the objects in the order of their paths; an absent one is empty."""
        with ThreadPoolExecutor(_READERS) as threads:
            yield from (data or b"" for data in threads.map(self.read, paths))

    def create(self, path: str, data: bytes) -> bool:
        """Write an object that is not there yet; False, and nothing written, if it is.

        An object that is there with these very bytes counts as written: a store whose answer was lost is asked again.
        """
        with told_plainly():
            try:
                obstore.put(self._store, path, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return self.read(path) == data
            self._settle(path)
            return True

    def replace(self, path: str, data: bytes) -> None:
        """Write an object, also over one that is there."""
        with told_plainly():
            obstore.put(self._store, path, data, mode="overwrite", use_multipart=False)
            self._settle(path)

    def upload(self, path: str, file: Path) -> None:
        """Write a file of any size."""
        with told_plainly(), file.open("rb") as content:
            obstore.put(self._store, path, content, mode="overwrite")
            self._settle(path)

    def chunks(self, path: str) -> Iterator[bytes]:
        """Yield the parts of an object of any size; nothing if there is none."""
        with told_plainly():
            try:
                found = obstore.get(self._store, path)
            except FileNotFoundError:
                return
            for chunk in found:
                yield bytes(chunk)

    def digest(self, path: str) -> str | None:
        """Return the SHA-256 of an object, None if there is none."""
        if self.changed_at(path) is None:
            return None
        digest = hashlib.sha256()
        for chunk in self.chunks(path):
            digest.update(chunk)
        return digest.hexdigest()

    def changed_at(self, path: str) -> datetime | None:
        """Return when an object was written, None if there is none."""
        with told_plainly():
            try:
                return obstore.head(self._store, path)["last_modified"]
            except FileNotFoundError:
                return None

    def paths(self, folder: str) -> list[tuple[str, datetime]]:
        """Return the paths of all objects in a folder, each with the time when it was written."""
        with told_plainly():
            chunks = obstore.list(self._store, prefix=folder)
            return [(meta["path"], meta["last_modified"]) for chunk in chunks for meta in chunk]

    def delete(self, paths: Iterable[str]) -> None:
        """Remove objects."""
        with told_plainly():
            obstore.delete(self._store, list(paths))

    def _settle(self, path: str) -> None:
        """Return when an object in a directory survives a loss of power; a bucket's answer says so by itself."""
        if self._folder is None:
            return
        for place in (self._folder / path, (self._folder / path).parent):
            descriptor = os.open(place, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


@contextlib.contextmanager
def told_plainly() -> Generator[None]:
    """Turn what a store fails with into one error that says what to do."""
    try:
        yield
    except (OSError, BaseError, ValueError) as error:
        words = " ".join(str(error).partition("Debug source")[0].split())[:_WORDS]
        full = "No space left" in str(error) or "File too large" in str(error)
        what = "free the disk" if full else "check `registry.url`, its access rights, and a bucket's AWS_* variables"
        code = "registry_full" if full else "registry_unusable"
        raise RegistryError(code, f"the registry cannot be used: {words}; {what}") from error
