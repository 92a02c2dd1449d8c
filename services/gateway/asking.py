"""Asks a person on the terminal: what is known first, then each question, then whether to build a design.

Lines are read by the event loop, not by a thread: the mesh goes on meanwhile, and Ctrl-C finds nothing blocked.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from contracts.events import AnswerValue, Question
from contracts.task import TaskState
from services.gateway.following import Decision
from services.gateway.output import Output
from services.gateway.result import design_text, known, question_text

_YES = frozenset({"", "y", "yes"})
_NO = frozenset({"n", "no"})


@dataclass(slots=True)
class Terminal:
    """The person at stdin and stderr."""

    output: Output
    _left: bytes = b""
    """What was typed ahead."""
    _ended: bool = False

    async def answer(self, state: TaskState) -> Mapping[str, AnswerValue] | None:
        """Answers to the open questions; Enter takes the default. None at the end of input."""
        if known(state):
            self.output.say("Known already:\n" + "\n".join(f"  {text}" for text in known(state)) + "\n")
        count = len(state.open_questions)
        self.output.say(f"{count} to answer; Enter takes the default.\n")
        found: dict[str, AnswerValue] = {}
        for question in state.open_questions:
            value = await self._one(question)
            if value is None:
                return None
            found[question.id] = value
        return found

    async def decide(self, state: TaskState) -> Decision | None:
        """Whether to build the design. None at the end of input."""
        if state.design is not None:
            self.output.say(design_text(state.design) + "\n")
        while (said := await self._line("Build this? [Y/n] ")) is not None:
            if said.lower() in _YES:
                return Decision(agreed=True)
            if said.lower() in _NO:
                return Decision(agreed=False, comment=await self._line("Why not (Enter for no comment)? ") or "")
        return None

    async def agrees(self, question: str) -> bool:
        """Whether the person says yes; anything else, and the end of input, is a no."""
        return (await self._line(f"{question} [y/N] ") or "").lower() in _YES - {""}

    async def _one(self, question: Question) -> AnswerValue | None:
        self.output.say(question_text(question))
        while True:
            said = await self._line("  > ")
            if said:
                return said
            if said is None or question.default is not None:
                return None if said is None else question.default
            self.output.say("  there is no default: an answer is needed (Ctrl-D leaves it open)")

    async def _line(self, prompt: str) -> str | None:
        """The next line, stripped; None at the end of input."""
        sys.stderr.write(prompt)
        sys.stderr.flush()
        while b"\n" not in self._left and not self._ended:
            await self._more()
        if b"\n" not in self._left:
            return None
        line, _, self._left = self._left.partition(b"\n")
        return line.decode("utf-8", "replace").strip()

    async def _more(self) -> None:
        loop, ready, stdin = asyncio.get_running_loop(), asyncio.Event(), sys.stdin.fileno()
        loop.add_reader(stdin, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(stdin)
        typed = os.read(stdin, 65_536)
        self._left += typed
        self._ended = not typed
