"""The published form of the contracts: a JSON Schema for each message and one AsyncAPI 3.0 document.

Everything is derived: bodies from the models, subjects and parties from `channels`.
`python -m contracts.asyncapi` writes `contracts/schema/`, `--check` compares it with what the code says now.
Published schemas are open: readers ignore what they do not know, so what a newer publisher adds is no error.
Headers are described but never required, since a bare publisher is accepted (see `envelope`).

Sources: AsyncAPI 3.0.0, JSON Schema 2020-12, CloudEvents NATS protocol binding 1.0.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

from pydantic import AliasChoices
from pydantic.json_schema import models_json_schema

from contracts import envelope
from contracts.channels import CHANNELS, PARAMETERS, Channel, summary_of
from contracts.message import Message

SCHEMA_DIR: Final = Path(__file__).parent / "schema"
DOCUMENT: Final = "asyncapi.json"
VERSION: Final = "1.0.0"
"""Of the contracts as a whole: its major rises when a message's does."""

_INBOX: Final = "inbox"
"""The channel of replies: its subject is the requester's own."""

Json = dict[str, Any]


def files() -> dict[str, str]:
    """Name -> text of every file in `contracts/schema/`; the same models give the same bytes."""
    schemas = {f"{model.__name__}.json": message_schema(model) for model in messages()}
    return {name: _text(content) for name, content in {**schemas, DOCUMENT: document()}.items()}


def messages() -> tuple[type[Message], ...]:
    """Every message that travels on a channel, in the order of the table."""
    bodies = (model for channel in CHANNELS for model in (*channel.messages, *filter(None, (channel.reply,))))
    return tuple(dict.fromkeys(bodies))


def message_schema(model: type[Message]) -> Json:
    """JSON Schema 2020-12 of one body: open, with both spellings where a field has two."""
    described = model.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": model.data_schema(),
        **_opened(_both_spellings(described, model)),
    }


def document() -> Json:
    """The AsyncAPI document: channels are subjects, operations say who sends and who receives."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "mlmesh",
            "version": VERSION,
            "description": "What the services of the mesh say to each other on NATS.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {"local": {"host": "127.0.0.1:4222", "protocol": "nats"}},
        "channels": {**{channel.name: _channel(channel) for channel in CHANNELS}, _INBOX: _inbox()},
        "operations": {name: operation for channel in CHANNELS for name, operation in _operations(channel).items()},
        "components": {
            "schemas": {"Headers": _headers(), **_component_schemas()},
            "messages": {model.__name__: _message(model) for model in messages()},
        },
    }


def _channel(channel: Channel) -> Json:
    parameters = [part[1:-1] for part in channel.address.split(".") if part.startswith("{")]
    described: Json = {
        "address": channel.address,
        "summary": channel.summary,
        "messages": _message_refs(channel.messages),
    }
    if parameters:
        described["parameters"] = {name: {"description": PARAMETERS[name]} for name in parameters}
    if channel.stream:
        described["x-nats-stream"] = channel.stream
    return described


def _inbox() -> Json:
    replies = tuple(dict.fromkeys(channel.reply for channel in CHANNELS if channel.reply))
    return {
        "address": None,
        "summary": "The requester's inbox, named in the request's reply subject.",
        "messages": _message_refs(replies),
    }


def _message_refs(models: Sequence[type[Message]]) -> Json:
    return {model.__name__: {"$ref": f"#/components/messages/{model.__name__}"} for model in models}


def _operations(channel: Channel) -> Json:
    parties = [(party, "send") for party in channel.senders] + [(party, "receive") for party in channel.receivers]
    return {f"{party}.{action}.{channel.name}": _operation(channel, party, action) for party, action in parties}


def _operation(channel: Channel, party: str, action: str) -> Json:
    described: Json = {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel.name}"},
        "summary": f"{party} {'publishes' if action == 'send' else 'consumes'} {channel.address}",
        "tags": [{"name": party}],
        "messages": [{"$ref": f"#/channels/{channel.name}/messages/{m.__name__}"} for m in channel.messages],
    }
    if channel.reply:
        described["reply"] = {
            "channel": {"$ref": f"#/channels/{_INBOX}"},
            "messages": [{"$ref": f"#/channels/{_INBOX}/messages/{channel.reply.__name__}"}],
        }
        if action == "receive":
            described["bindings"] = {"nats": {"queue": party, "bindingVersion": "0.1.0"}}
    return described


def _message(model: type[Message]) -> Json:
    return {
        "name": model.__name__,
        "title": model.__name__,
        "summary": summary_of(model),
        "contentType": "application/json",
        "headers": {
            "allOf": [
                {"$ref": "#/components/schemas/Headers"},
                {"properties": {"ce-dataschema": {"type": "string", "const": model.data_schema()}}},
            ]
        },
        "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
    }


def _headers() -> Json:
    described = {
        envelope.MSG_ID: "Id of the message, the same in every retry: the server drops the second of two.",
        "ce-specversion": "CloudEvents: 1.0.",
        "ce-id": "CloudEvents: the same id, percent-encoded where a header could not carry it.",
        "ce-type": "CloudEvents: mlmesh.task.<event>, or the type of what is not a task's.",
        "ce-source": "CloudEvents: urn:mlmesh:<service>.",
        "ce-subject": "CloudEvents: the task id.",
        "ce-time": "CloudEvents: RFC 3339, UTC.",
        "ce-dataschema": "CloudEvents: urn:mlmesh:<Message>:<major>.",
        "content-type": "application/json.",
        envelope.TRACEPARENT: "W3C trace context of the publisher.",
        envelope.CORRELATION: "The task id.",
        envelope.CAUSATION: "Id of the message that led to this one.",
        envelope.WORKSPACE: "The workspace concerned, where the body names none.",
        envelope.DEADLINE: "RFC 3339, UTC.",
        envelope.BEGUN: "Sequence in TASKS of the task's first event: where who reads its history may begin.",
        envelope.REDRIVE: "How often it was redriven. A redrive keeps ce-id; the cause is the dead letter.",
    }
    return {
        "title": "Headers",
        "type": "object",
        "description": "CloudEvents 1.0, binary mode. All optional: what is missing is derived from the message.",
        "properties": {name: {"type": "string", "description": text} for name, text in described.items()},
    }


def _component_schemas() -> Json:
    """The bodies and their parts under one roof, as the document's references want them."""
    models = messages()
    _, described = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    parts: Json = described["$defs"]
    named = {model.__name__: model for model in models}
    whole = {name: _both_spellings(part, named[name]) if name in named else part for name, part in parts.items()}
    return _opened(whole)


def _both_spellings(schema: Json, model: type[Message]) -> Json:
    """The schema with a property for every alias; a required field is satisfied by any of its spellings."""
    properties: Json = {}
    required = [*schema.get("required", ())]
    either: list[Json] = []
    for name, described in schema.get("properties", {}).items():
        spellings = _spellings(model, name)
        properties |= dict.fromkeys(spellings, described)
        if len(spellings) > 1 and name in required:
            required.remove(name)
            either.append({"anyOf": [{"required": [spelling]} for spelling in spellings]})
    rest = {key: value for key, value in schema.items() if key not in {"properties", "required"}}
    parts = {"properties": properties, "required": required, "allOf": either}
    return {**rest, **{key: value for key, value in parts.items() if value}}


def _spellings(model: type[Message], name: str) -> list[str]:
    field = model.model_fields.get(name)
    alias = field.validation_alias if field else None
    return [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [name]


def _opened(schema: Any) -> Any:
    """The schema without `additionalProperties: false`, at every depth."""
    if isinstance(schema, dict):
        entries = cast("Json", schema)
        return {k: _opened(v) for k, v in entries.items() if not (k == "additionalProperties" and v is False)}
    if isinstance(schema, list):
        return [_opened(item) for item in cast("list[Any]", schema)]
    return schema


def _text(content: Json) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def stale(directory: Path) -> list[str]:
    """Names of files in `directory` that are missing, extra or not what the code says."""
    wanted = files()
    present = {path.name: path.read_text(encoding="utf-8") for path in directory.glob("*")}
    return sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))


def write(directory: Path) -> None:
    """Makes `directory` hold exactly the published files."""
    directory.mkdir(exist_ok=True)
    wanted = files()
    for path in directory.glob("*"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (directory / name).write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the published files, or with `--check` names those that are out of date."""
    parser = argparse.ArgumentParser(prog="python -m contracts.asyncapi", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of date")
    parser.add_argument("--directory", type=Path, default=SCHEMA_DIR, help="where the files are")
    options = parser.parse_args(arguments)
    if not options.check:
        write(options.directory)
        return 0
    outdated = stale(options.directory)
    if outdated:
        sys.stderr.write(f"out of date: {', '.join(outdated)}\nrun: python -m contracts.asyncapi\n")
    return 1 if outdated else 0


if __name__ == "__main__":
    sys.exit(main())
