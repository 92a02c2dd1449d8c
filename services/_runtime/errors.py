"""The error tree. The class decides what the worker does, so handlers raise and never acknowledge.

MeshError
+-- Malformed          this message can never be processed    -> dead letter, terminate
+-- Transient          the same message may work later        -> nak with a jittered delay
|    +-- BusUnavailable    no connection or no answer
|         +-- NobodyAnswers     no service listens on that subject now
|         +-- NoStream          the stream is not there (any more)
|         +-- StoreFull         the server has no room: nothing is stored, nothing is lost
+-- HandsOver          this process stops                     -> nak at once: another goes on
+-- Permanent          the task cannot succeed                -> the task fails with this reason
|    +-- TooLarge          over the server's limit
|    +-- BudgetExceeded    tokens, cost or time used up
+-- Misconfigured      this process cannot do its work        -> exit non-zero at start
|    +-- Forbidden         the bus refused a subject
+-- Fenced             another executor holds the task        -> stop, write nothing more
+-- WrongSequence      a compare-and-set was refused          -> fold what is new, decide again
+-- Interrupted        the task was cancelled or timed out    -> end it
"""

from typing import Literal


class MeshError(Exception):
    """Base of everything the mesh raises on purpose. The text says what to do."""


class Malformed(MeshError):  # noqa: N818 - the tree reads as outcomes
    """A message that can never be processed."""


class Transient(MeshError):  # noqa: N818
    """Something that may work later."""


class BusUnavailable(Transient):
    """The bus did not answer; whether a publish was stored is unknown."""


class NobodyAnswers(BusUnavailable):
    """No service listens on a subject: the request was heard by nobody, so asking again is safe."""

    def __init__(self, subject: str) -> None:
        super().__init__(f"nobody answers on {subject!r}: is that service running?")
        self.subject = subject


class NoStream(BusUnavailable):
    """A stream of the mesh is not there: never made, or removed by somebody."""

    def __init__(self, stream: str) -> None:
        super().__init__(
            f"there is no stream {stream!r} on this bus: restart a service, each makes what is missing; where services"
            " have keys, run `mlmesh provision`"
        )
        self.stream = stream


class HandsOver(MeshError):  # noqa: N818
    """The process stops in good order: the next step is another executor's."""


class StoreFull(BusUnavailable):
    """The server has no room to store a message: this one is not stored, and what is stored stays."""

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(
            f"the bus has no room to store {subject!r} ({reason}): free space on its disk, or raise its limit"
            f" (max_file_store of the server, MLMESH_STORE_MAX_BYTES of the embedded one, MLMESH_TASKS_MAX_BYTES), then"
            f" do the same again; what was stored before is kept"
        )
        self.subject = subject


class Permanent(MeshError):  # noqa: N818
    """The task cannot succeed; the text is the reason a person can act on."""


class TooLarge(Permanent):
    """A message over the server's limit."""

    def __init__(self, *, subject: str, size: int, limit: int) -> None:
        super().__init__(
            f"a message on {subject!r} has {size} bytes, over the limit of {limit}: send a reference instead,"
            f" or raise max_payload on the server"
        )
        self.subject = subject
        self.size = size
        self.limit = limit


class BudgetExceeded(Permanent):
    """A limit on tokens, cost or time is used up."""


class Misconfigured(MeshError):  # noqa: N818
    """This process cannot do its work as configured."""


class Forbidden(Misconfigured):
    """The bus's permissions refuse a subject."""

    def __init__(self, *, action: str, subject: str) -> None:
        super().__init__(
            f"the bus forbids this service to {action} {subject!r}: its user's permissions lack that subject"
        )
        self.action = action
        self.subject = subject


class Fenced(MeshError):  # noqa: N818
    """Another executor has claimed the task since: nothing more may be written."""

    def __init__(self, *, task: str, claim: int, by_work_seq: int | None) -> None:
        super().__init__(f"claim {claim} on task {task!r} is over: another executor holds it")
        self.task = task
        self.claim = claim
        self.by_work_seq = by_work_seq


class WrongSequence(MeshError):  # noqa: N818
    """A compare-and-set was refused: something was written in between."""


class Interrupted(MeshError):  # noqa: N818
    """The task must end now: somebody cancelled it, or its deadline passed."""

    def __init__(self, cause: Literal["cancel", "deadline"], reason: str) -> None:
        super().__init__(reason)
        self.cause: Literal["cancel", "deadline"] = cause
        self.reason = reason
