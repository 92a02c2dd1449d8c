"""A task from outside: any NATS client will do, no header is needed.

Publishes a request to a mesh that runs (`mlmesh up`), watches what happens to it, and ends with the task. Where
something is missing, the questions come by on the bus, and so can the answers:

    python examples/publish_task.py WORKSPACE "Predict churn from data/customers.csv"
    python examples/publish_task.py WORKSPACE "Predict churn from data/customers.csv" nfr.latency="20 ms"
"""
# ruff: noqa: INP001 - a script

import asyncio
import json
import os
import sys
import uuid
from pathlib import Path
from typing import Any

import nats

FINAL = ("completed", "failed", "canceled")


async def main(workspace: str, request: str, *answers: str) -> int:
    """Publishes, watches, and returns 0 when the task completed."""
    task = uuid.uuid4().hex
    body = {
        "request": request,
        "workspace": workspace,
        "answers": dict(answer.split("=", 1) for answer in answers),
    }
    connection = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))
    try:
        stream = connection.jetstream()
        await stream.publish(f"mesh.task.{task}.submitted.ml-engineer", json.dumps(body).encode())
        history = await stream.subscribe(f"mesh.task.{task}.>", stream="TASKS", ordered_consumer=True)
        async for message in history.messages:
            event = message.subject.split(".")[3]
            tell(task, event, json.loads(message.data))
            if event in FINAL:
                return 0 if event == "completed" else 1
        return 1
    finally:
        await connection.close()


def tell(task: str, event: str, body: dict[str, Any]) -> None:
    """One line an event; questions and the summary whole."""
    match event:
        case "asked":
            lines = [f"{question['id']}: {question['text']}" for question in body["questions"]]
            lines.append(f'answer with: mlmesh answer {task} {body["questions"][0]["id"]}="..."')
        case "step":
            lines = [f"{body['name']}: {body['outcome']}"]
        case "progressed":
            lines = [f"{body['step']} {body.get('message', '')}"]
        case "summarised":
            lines = [body["text"]]
        case _:
            lines = [body.get("reason", "")]
    sys.stdout.write(f"{event:12} " + "\n             ".join(lines) + "\n")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: publish_task.py WORKSPACE REQUEST [slot.field=answer ...]")
    sys.exit(asyncio.run(main(str(Path(sys.argv[1]).resolve()), *sys.argv[2:])))
