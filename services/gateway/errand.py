"""A command that tells a mesh something about a task and then follows it, over a change of meshes.

When the mesh that the command was a client of ends, the home is free: the command starts one of its own and goes
on with the same task. Left out: what is told (the commands), the following itself (following.py).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from contracts.task import TaskState
from services.gateway import requests
from services.gateway.asking import Terminal
from services.gateway.attach import Desk, MeshGone, Need, Place, at_desk
from services.gateway.ending import ended, recorded
from services.gateway.following import Journey, Person
from services.gateway.output import Output
from services.gateway.progress import view_of


@dataclass(slots=True)
class Errand:
    """One command's business with one task."""

    tell: Callable[[Desk], Awaitable[str]]
    """Publishes what the command has to say; the id of its task."""
    output: Output
    wait: bool | None = True
    """Whether to follow; None: where this command runs the mesh itself."""
    person: Callable[[], Person | None] | None = None
    """Who answers questions; default: whoever sits at the terminal."""
    _task: str = ""
    _stopped: bool = False
    _followed: bool = True

    async def run(self, place: Place, need: Need) -> int:
        """The command's exit code, after its last word."""
        while True:
            try:
                state = await at_desk(place, need, self._work)
            except MeshGone as gone:
                self.output.say(f"{gone}: going on with a mesh of our own")
                need = "resume"
                continue
            if not self._followed:
                return recorded(state, self.output)
            return ended(state, self.output, stopped=self._stopped)

    async def _work(self, desk: Desk) -> TaskState:
        self._task = self._task or await self.tell(desk)
        self._followed = desk.how.mode == "mesh" if self.wait is None else self.wait
        if not self._followed:
            return await requests.state_of(desk.bus, self._task)
        person = self.person() if self.person else terminal(self.output)
        journey = Journey(desk, TaskState(self._task), view_of(self._task), person)
        found = await journey.run()
        self._stopped = journey.interrupts.stop.is_set()
        return found


def terminal(output: Output) -> Terminal | None:
    """The person at the terminal, if one sits there."""
    return Terminal(output) if output.interactive else None
