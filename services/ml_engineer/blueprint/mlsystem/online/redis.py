"""Online rows in Redis, for those who have one: everything else stays in the system's state.

Owns the keys (`mlsystem:SYSTEM:TABLE:ENTITY`, a hash of watermark `w` and values `v` as JSON) and the rule that a
newer row is never replaced by an older one, which Redis keeps itself in a script. The client is imported when it is
used.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from mlsystem.errors import StateError
from mlsystem.online import TABLE
from mlsystem.state.port import Erased, OnlineRow, State

if TYPE_CHECKING:
    from redis import Redis

_BATCH: Final = 1000
"""Rows in one exchange."""

_PATIENCE_S: Final = 2.0

_PUT_IF_NEWER: Final = """
local known = redis.call('HGET', KEYS[1], 'w')
if known and tonumber(known) > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'w', ARGV[1], 'v', ARGV[2])
return 1
"""


def with_redis(state: State, url: str, system: str) -> State:
    """Return a state whose online rows are in the Redis at `url`; nothing is opened before it is used."""
    return cast("State", _OnlineElsewhere(state, url, system))


class _OnlineElsewhere:
    """A state but for its online rows; whatever is not written here is the state's own."""

    def __init__(self, state: State, url: str, system: str) -> None:
        self._state, self._url, self._system = state, url, system
        self._client: Redis | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def put_rows(self, table: str, rows: Iterable[OnlineRow]) -> int:
        """Keep online rows, except where Redis has a newer one; return how many were written."""
        written, rest = 0, iter(rows)
        while batch := list(itertools.islice(rest, _BATCH)):
            written += sum(self._exchange([self._put(table, row) for row in batch]))
        return written

    def rows(self, table: str, entities: Sequence[str]) -> list[OnlineRow | None]:
        """Return the online rows of these entities in this order, in one exchange."""
        found = self._exchange([("HMGET", self._key(table, entity), "w", "v") for entity in entities])
        return [
            OnlineRow(entity, msgspec.json.decode(values), float(watermark)) if values else None
            for entity, (watermark, values) in zip(entities, found, strict=True)
        ]

    def erase(self, entity: str) -> Erased:
        """Remove everything about an entity, here and in the state."""
        (removed,) = self._exchange([("DEL", self._key(TABLE, entity))])
        erased = self._state.erase(entity)
        return msgspec.structs.replace(erased, rows=erased.rows + removed)

    def close(self) -> None:
        """Let both stores go."""
        if self._client is not None:
            self._client.close()
        self._state.close()

    def _key(self, table: str, entity: str) -> str:
        return f"mlsystem:{self._system}:{table}:{entity}"

    def _put(self, table: str, row: OnlineRow) -> tuple[str | int | bytes, ...]:
        values = msgspec.json.encode(row.values)
        return ("EVAL", _PUT_IF_NEWER, 1, self._key(table, row.entity), repr(row.watermark), values)

    def _exchange(self, commands: Sequence[tuple[str | int | bytes, ...]]) -> list[Any]:
        """Send commands together and return their replies; StateError without the URL, which is a secret."""
        client, failures = self._opened()
        try:
            with client.pipeline(transaction=False) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                return pipeline.execute()
        except failures as error:
            text = f"online rows cannot be had: Redis says {type(error).__name__}; start it, or check serving.online"
            raise StateError("online_unavailable", text) from None

    def _opened(self) -> tuple[Redis, type[Exception]]:
        try:
            import redis
        except ImportError:
            text = "serving.online names a Redis, whose client is not installed; add `redis` to the environment"
            raise StateError("redis_missing", text) from None
        if self._client is None:
            limits: dict[str, float] = {"socket_timeout": _PATIENCE_S, "socket_connect_timeout": _PATIENCE_S}
            self._client = cast("Callable[..., Redis]", redis.Redis.from_url)(self._url, **limits)
        return self._client, redis.RedisError
