"""system.toml: the one definition of every key, its type, range, default and whether it has an effect yet.

Owns parsing (a walk over the keys first, so that all that is wrong is named at once, unknown keys with the nearest
known one), the table KEYS that says what each key is for and which have no effect yet, the JSON Schema made from
both, and the command `check`. A key without effect that is set to anything but its default is refused, never
ignored. Leaves the meaning of the values to the stages that read them.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeGuard, cast, get_args, get_origin, get_type_hints

import msgspec

from mlsystem.errors import SpecError
from mlsystem.expression import BadExpression, parse
from mlsystem.output import Reporter

SPEC_FILE = "system.toml"
STATE_VARIABLE = "MLSYSTEM_STATE"
"""Environment variable that wins over serving.state."""
REGISTRY_VARIABLE = "MLSYSTEM_REGISTRY"
"""Environment variable that wins over registry.url."""

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
Duration = Annotated[str, msgspec.Meta(pattern=r"^\d+(\.\d+)?(ms|s|m|h|d)$")]
Size = Annotated[str, msgspec.Meta(pattern=r"^\d+(\.\d+)?(B|KiB|MiB|GiB)$")]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]
AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
Metric = Literal[
    "roc_auc", "average_precision", "log_loss", "brier", "ece", "accuracy", "f1_macro", "mae", "rmse", "r2"
]
Family = Literal["linear", "lightgbm"]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of system.toml."""


class Kpi(_Table, frozen=True):
    """The business figure that the system should move."""

    name: str = ""
    target: float = 0.0


class Task(_Table, frozen=True, kw_only=True):
    """What is predicted."""

    kind: Literal["binary", "multiclass", "regression", "forecast"]
    target: Annotated[str, msgspec.Meta(min_length=1)]
    positive: str = ""
    metric: Literal["auto", "roc_auc", "log_loss", "mae", "mase"] = "auto"
    horizon: Count = 0
    series: tuple[str, ...] = ()


class ReaderOptions(_Table, frozen=True):
    """What to assume about the source's files instead of what they look like."""

    delimiter: Annotated[str, msgspec.Meta(max_length=1)] = ""
    encoding: str = ""
    header: bool | None = None
    decimal: Literal["", ".", ","] = ""
    quote: Annotated[str, msgspec.Meta(max_length=1)] = ""
    dayfirst: bool | None = None
    null: tuple[str, ...] = ()


class Data(_Table, frozen=True):
    """Where the rows come from and what their special columns are."""

    source: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    query: str = ""
    reader: ReaderOptions = ReaderOptions()
    time: str = ""
    label_time: str = ""
    entity: str = ""
    snapshot: Literal["copy", "digest"] = "copy"
    licence: str = ""


class ColumnRule(_Table, frozen=True):
    """A departure from what the data suggest about one column."""

    role: Literal["", "feature", "ignore", "leak", "id", "weight"] = ""
    type: Literal["", "number", "integer", "date", "datetime", "category", "text"] = ""
    why: str = ""
    protected: bool = False
    pii: str = ""


class Split(_Table, frozen=True):
    """Which rows are held out, and how the rest is folded."""

    method: Literal["auto", "time", "group", "random"] = "auto"
    holdout: Annotated[float, msgspec.Meta(ge=0.05, le=0.5)] = 0.2
    folds: Annotated[int, msgspec.Meta(ge=2, le=20)] = 5
    gap: Duration = "0d"


class Search(_Table, frozen=True):
    """How much is tried, and in what way."""

    budget: Duration = "60s"
    trials: Count = 0
    families: tuple[Family, ...] = ()
    prefer: Literal["quality", "simple"] = "quality"
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 7
    threads: Annotated[int, msgspec.Meta(ge=1, le=256)] = 2
    memory: Size = "4GiB"
    engine: Literal["local", "ray"] = "local"
    model: str = ""


class Objectives(_Table, frozen=True):
    """What the server has to hold."""

    latency_ms_p99: NotNegative = 0
    rate_rps: Annotated[float, msgspec.Meta(gt=0)] = 50
    peak_factor: Annotated[float, msgspec.Meta(ge=1)] = 3
    availability: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.99
    model_mb: Annotated[float, msgspec.Meta(gt=0)] = 20


class Cost(_Table, frozen=True):
    """What a wrong decision costs."""

    false_positive: NotNegative = 1.0
    false_negative: NotNegative = 1.0


class Decision(_Table, frozen=True):
    """How a probability becomes an action."""

    threshold: Literal["auto"] | Share = "auto"
    cost: Cost = Cost()
    capacity: Share = 0.0
    coverage: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.9


class Gates(_Table, frozen=True):
    """What a model must pass; 0 or false reports only."""

    parity: NotNegative = 1e-5
    beats_trivial: bool = True
    ece: Share = 0.05
    coverage_error: Share = 0.05
    fairness_gap: Share = 0.0
    floors: dict[Metric, float] = {}


class Replicas(_Table, frozen=True):
    """How many servers, by load."""

    min: AtLeastOne = 1
    max: AtLeastOne = 1
    cpu: Annotated[int, msgspec.Meta(ge=1, le=100)] = 70


class Serving(_Table, frozen=True):
    """The server and its limits."""

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8080
    workers: AtLeastOne = 1
    max_rows: AtLeastOne = 1000
    max_body: Size = "4MiB"
    timeout: Duration = "5s"
    concurrency: AtLeastOne = 64
    strict: bool = False
    api_keys: str = ""
    state: str = "sqlite:state/serving.db"
    online: str = ""
    replicas: Replicas = Replicas()


class Capture(_Table, frozen=True):
    """What is kept of the requests."""

    sample: Share = 1.0
    columns: Literal["features", "none"] = "features"
    retention: Duration = "30d"
    mask: Literal["auto", "none"] = "auto"


class Guardrails(_Table, frozen=True):
    """What stops a challenger at once."""

    error_rate: Share = 0.01
    latency_ms_p99: NotNegative = 0


class Rollout(_Table, frozen=True):
    """How a challenger takes over."""

    stages: tuple[Annotated[str, msgspec.Meta(pattern=r"^(shadow|full|(canary|ab):0?\.\d+)$")], ...] = (
        "shadow",
        "canary:0.1",
        "canary:0.5",
        "full",
    )
    alpha: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.02
    min_pairs: AtLeastOne = 1000
    bake: Duration = "1h"
    lease: Duration = "15m"
    guardrails: Guardrails = Guardrails()
    inconclusive: Literal["hold", "promote", "rollback"] = "hold"
    auto_promote: bool = False
    auto_rollback: bool = True


class Monitoring(_Table, frozen=True):
    """When a person is told that the world has changed."""

    window: Duration = "1h"
    min_rows: AtLeastOne = 500
    psi: tuple[NotNegative, NotNegative] = (0.1, 0.25)
    persistence: tuple[AtLeastOne, AtLeastOne] = (2, 3)
    season: Annotated[str, msgspec.Meta(pattern=r"^(\d+(\.\d+)?(ms|s|m|h|d))?$")] = ""
    label_delay: Duration = "30d"
    quality_drop: Share = 0.05
    freshness: Duration = "7d"
    notify: str = ""


class Retraining(_Table, frozen=True):
    """When a new version is made, and who lets it go."""

    on: tuple[Literal["drift", "quality", "schedule"], ...] = ("drift", "quality")
    window: Annotated[str, msgspec.Meta(pattern=r"^(all|\d+(\.\d+)?(ms|s|m|h|d))$")] = "all"
    min_labels: AtLeastOne = 500
    approval: Literal["person", "auto"] = "person"
    cooldown: Duration = "1d"


class Governance(_Table, frozen=True):
    """The rules that the data are under."""

    regime: tuple[Literal["gdpr", "hipaa", "pci"], ...] = ()
    retention: Duration = "30d"
    mask: Literal["auto", "none"] = "auto"


class Registry(_Table, frozen=True):
    """Where packages and their history live."""

    url: Annotated[str, msgspec.Meta(min_length=1)] = "registry"
    keep: AtLeastOne = 10


class Export(_Table, frozen=True):
    """Manifests for other platforms."""

    kserve: bool = True
    mlflow: bool = False


class Spec(_Table, frozen=True, kw_only=True):
    """All of system.toml; every key but `format`, `name`, `task.kind`, `task.target`, `data.source` has a default."""

    format: Literal[1]
    name: Name
    goal: str = ""
    kpi: Kpi = Kpi()
    owner: str = ""
    task: Task
    data: Data
    columns: dict[str, ColumnRule] = {}
    derive: dict[str, str] = {}
    split: Split = Split()
    search: Search = Search()
    objectives: Objectives = Objectives()
    decision: Decision = Decision()
    gates: Gates = Gates()
    serving: Serving = Serving()
    capture: Capture = Capture()
    rollout: Rollout = Rollout()
    monitoring: Monitoring = Monitoring()
    retraining: Retraining = Retraining()
    governance: Governance = Governance()
    registry: Registry = Registry()
    export: Export = Export()

    def value(self, key: str) -> Any:
        """Return the JSON value of a dotted key or a whole table, defaults included: `spec.value("search.seed")`."""
        found: object = self
        for part in key.split("."):
            found = getattr(found, part)
        return msgspec.to_builtins(found)


@dataclass(frozen=True, slots=True)
class Key:
    """One key of system.toml: what it is for, and what is missing while it has no effect."""

    about: str
    needs: str = ""
    """Empty: the key takes effect. Else what is not built yet: any value but the default is refused."""


_ROLLOUT = "splitting traffic between two versions"
_RETRAIN = "retraining from captured rows"

KEYS: Final[dict[str, Key]] = {
    "format": Key("Version of this file's format"),
    "name": Key("Name of the system: lower-case letters, digits and dashes"),
    "goal": Key("Business aim in a sentence"),
    "kpi.name": Key("Business figure that the system should move"),
    "kpi.target": Key("Value that the figure should reach"),
    "owner": Key("Who answers for the system"),
    "task.kind": Key("What kind of prediction; `forecast` needs series models, which are not built yet"),
    "task.target": Key("Column that is predicted"),
    "task.positive": Key("Binary: the label that the probability is about; default: the rarer one"),
    "task.metric": Key("What the search optimises; `mase` needs forecasting, which is not built yet"),
    "task.horizon": Key("Forecast: steps ahead", "forecasting"),
    "task.series": Key("Forecast: key columns of a series", "forecasting"),
    "data.source": Key("Files or globs (CSV, Parquet, JSON lines), or one env:VAR with a database URL"),
    "data.query": Key("SQL whose rows are learnt from: DuckDB's over the files, by their stems, or the database's own"),
    "data.reader.delimiter": Key("Sign between two fields"),
    "data.reader.encoding": Key("Encoding of the files, as Python names it"),
    "data.reader.header": Key("Whether the first line holds the names"),
    "data.reader.decimal": Key("Decimal sign of all numbers"),
    "data.reader.quote": Key("Sign around a field that holds delimiters"),
    "data.reader.dayfirst": Key("Whether 03/04/2024 is the third of April"),
    "data.reader.null": Key("Further texts that mean that a value is missing"),
    "data.time": Key("Column that says when a row was known; rows are split by it"),
    "data.label_time": Key("Column that says when the outcome was known; never a feature"),
    "data.entity": Key("Column that says whom a row is about; rows of one stay together, never a feature"),
    "data.snapshot": Key("Whether the source's bytes are copied, or only their digest is kept"),
    "data.licence": Key("Licence of the data"),
    "columns.*.role": Key("Role of the column, instead of the one that the data suggest"),
    "columns.*.type": Key("Type of the column, instead of the one that the data suggest"),
    "columns.*.why": Key("Reason for the departure; it goes into the contract"),
    "columns.*.protected": Key("Whether outcomes are compared over this column's groups", "fairness by group"),
    "columns.*.pii": Key("What personal data the column holds, instead of what is recognised; `none`: none"),
    "derive.*": Key(
        "A feature as an expression over columns, such as `total / max(months, 1)`, computed in the model: numbers, "
        "texts, columns (`with blanks` in backticks), + - * / // % **, < <= > >= == !=, in [...], and, or, not, "
        "a if test else b, min max abs log exp sqrt floor ceil round clip isnull coalesce where days month weekday "
        "dayofyear hour concat. What is missing stays missing; a division by zero is"
    ),
    "split.method": Key("How rows are held out; auto decides from the data"),
    "split.holdout": Key("Share of rows that the search never sees"),
    "split.folds": Key("Number of folds within the rest"),
    "split.gap": Key("Time between training rows and held-out rows, in a split by time"),
    "search.budget": Key("Wall time of training"),
    "search.trials": Key("Number of trials", "search by trials"),
    "search.families": Key("Model families to try; empty: all"),
    "search.prefer": Key("Whether a tie ships the simpler model"),
    "search.seed": Key("Seed of every random choice"),
    "search.threads": Key("Threads of training"),
    "search.memory": Key("Memory of training", "limiting the memory of training"),
    "search.model": Key("An ONNX file of the owner's that is served; nothing is searched then"),
    "search.engine": Key("Where trials run", "trials on a cluster"),
    "objectives.latency_ms_p99": Key("99th percentile of the answer time in milliseconds; 0: none"),
    "objectives.rate_rps": Key("Requests a second that are expected"),
    "objectives.peak_factor": Key("Peak over the expected rate"),
    "objectives.availability": Key("Share of requests that must be answered"),
    "objectives.model_mb": Key("Largest size of the model file in MB"),
    "decision.threshold": Key("Probability from which the positive label is predicted", "own thresholds"),
    "decision.cost.false_positive": Key("Cost of acting in vain", "thresholds from costs"),
    "decision.cost.false_negative": Key("Cost of not acting", "thresholds from costs"),
    "decision.capacity": Key("Share of rows that can be acted on", "thresholds from capacity"),
    "decision.coverage": Key("Share of outcomes that an interval covers", "prediction intervals"),
    "gates.parity": Key("Largest difference between the compiled model and the native one"),
    "gates.beats_trivial": Key("Whether the model must beat the best trivial baseline"),
    "gates.ece": Key("Largest calibration error"),
    "gates.coverage_error": Key("Largest error of interval coverage", "prediction intervals"),
    "gates.fairness_gap": Key("Largest gap between groups", "fairness by group"),
    "gates.floors": Key("Worst value allowed, by metric"),
    "serving.port": Key("Port of the server; 0: any free one"),
    "serving.workers": Key("Server processes on the one port; they are started again when they die"),
    "serving.max_rows": Key("Most rows in one request"),
    "serving.max_body": Key("Largest request body"),
    "serving.timeout": Key("Longest time for one request"),
    "serving.concurrency": Key("Most requests at the same time; more are turned away"),
    "serving.strict": Key("Whether a column that the data do not have is refused"),
    "serving.api_keys": Key("env:VAR with the entries of keys that callers must send; `mlsystem key` makes one"),
    "serving.online": Key("env:VAR with a Redis URL for the online rows of entities; empty: serving.state has them"),
    "serving.state": Key("Where requests are kept: sqlite:FILE for one host, env:VAR with a PostgreSQL URL for more"),
    "serving.replicas.min": Key("Fewest servers of the Kubernetes manifests; 1 and 1: filled from measured numbers"),
    "serving.replicas.max": Key("Most servers of the Kubernetes manifests; more than one need a shared state"),
    "serving.replicas.cpu": Key("Load in percent of a server at which another one is added"),
    "capture.sample": Key("Share of predictions that is kept for monitoring, late outcomes and retraining"),
    "capture.columns": Key("What is kept of their rows: the features, or none"),
    "capture.retention": Key("How long they are kept; governance.retention may be shorter"),
    "capture.mask": Key("Whether personal data in them is masked"),
    "rollout.stages": Key("Steps from the first shadow to full traffic", _ROLLOUT),
    "rollout.alpha": Key("Risk of a false decision", _ROLLOUT),
    "rollout.min_pairs": Key("Fewest paired predictions before a decision", _ROLLOUT),
    "rollout.bake": Key("Shortest time of a step", _ROLLOUT),
    "rollout.lease": Key("Time after which a plan falls back to the champion", _ROLLOUT),
    "rollout.guardrails.error_rate": Key("Error rate that stops a challenger", _ROLLOUT),
    "rollout.guardrails.latency_ms_p99": Key("Answer time that stops a challenger", _ROLLOUT),
    "rollout.inconclusive": Key("What follows when the data do not decide", _ROLLOUT),
    "rollout.auto_promote": Key("Whether a challenger is promoted without a person", _ROLLOUT),
    "rollout.auto_rollback": Key("Whether a challenger is rolled back without a person", _ROLLOUT),
    "monitoring.window": Key("Window over which requests are compared with training"),
    "monitoring.min_rows": Key("Fewest rows in a window; a window with fewer is joined with the next"),
    "monitoring.psi": Key("Population stability index, noise taken off, that warns and that alerts"),
    "monitoring.persistence": Key("Alert when so many of so many windows in a row are bad"),
    "monitoring.season": Key(
        "Length of a season: a window is compared with the same part of it; empty: none. Needs data.time"
    ),
    "monitoring.label_delay": Key("Time until outcomes should be known"),
    "monitoring.quality_drop": Key("Loss of quality that alerts, as a share of the value on the holdout"),
    "monitoring.freshness": Key("Age of the newest data in requests or in the online table that alerts"),
    "monitoring.notify": Key("env:VAR with the URL that alerts are posted to"),
    "retraining.on": Key("What starts a retraining", _RETRAIN),
    "retraining.window": Key("How far back its rows go", _RETRAIN),
    "retraining.min_labels": Key("Fewest new outcomes", _RETRAIN),
    "retraining.approval": Key("Who lets a retrained model go", _RETRAIN),
    "retraining.cooldown": Key("Shortest time between two retrainings", _RETRAIN),
    "governance.regime": Key("Rules that the data are under: their identifiers are no features, their gates decide"),
    "governance.retention": Key("How long captured requests may be kept, whatever capture.retention says"),
    "governance.mask": Key("Whether personal data is blank in what is stored; a regime masks always"),
    "registry.url": Key("Registry: a directory, or s3://bucket/prefix with credentials from the AWS_* variables"),
    "registry.keep": Key("Packages that are kept"),
    "export.kserve": Key("Whether a manifest for KServe is written"),
    "export.mlflow": Key("Whether `package` writes an MLflow model, or logs it to the server at MLFLOW_TRACKING_URI"),
}
"""Every key of system.toml, `*` standing for a name that the owner chooses. The one list of what takes effect."""

_VALUES_WITHOUT_EFFECT: Final[tuple[tuple[str, Callable[[Spec], bool], str], ...]] = (
    ("task.kind", lambda spec: spec.task.kind == "forecast", "forecasting; a regression with data.time works"),
    ("task.metric", lambda spec: spec.task.metric == "mase", "forecasting; mae works"),
)
"""Single values without effect of keys that otherwise have one."""

_METRICS: Final = {
    "binary": ("auto", "roc_auc", "log_loss"),
    "multiclass": ("auto", "log_loss"),
    "regression": ("auto", "mae"),
    "forecast": ("auto", "mae", "mase"),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with one key: unknown_key, bad_value, missing_key or not_supported_yet."""

    code: str
    key: str
    message: str
    nearest: str = ""

    def as_json(self) -> dict[str, object]:
        """Return the problem as it stands in results."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name))}


def read_spec(root: Path) -> Spec:
    """Return the checked spec of the system in `root`; SpecError names all that is wrong at once."""
    spec, problems = examine(read_toml(root / SPEC_FILE))
    if problems or spec is None:
        raise _refusal(problems)
    return spec


def parse_spec(content: bytes, name: str) -> Spec:
    """Return the checked spec that a file's bytes hold, as one that was stored with a model; SpecError names `name`."""
    try:
        spec, problems = examine(tomllib.loads(content.decode("utf-8-sig")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError("bad_spec", f"{name} cannot be read: {error}") from error
    if problems or spec is None:
        raise _refusal(problems)
    return spec


def placed(spec: Spec, environ: Mapping[str, str]) -> Spec:
    """Return the spec with state and registry where the environment says: an image serves in more than one place."""
    state, url = environ.get(STATE_VARIABLE), environ.get(REGISTRY_VARIABLE)
    if state:
        spec = msgspec.structs.replace(spec, serving=msgspec.structs.replace(spec.serving, state=state))
    if url:
        spec = msgspec.structs.replace(spec, registry=msgspec.structs.replace(spec.registry, url=url))
    return spec


def read_toml(path: Path) -> dict[str, object]:
    """Return the content of a TOML file; SpecError if it is absent or no TOML."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise SpecError(
            "no_spec", f"there is no {path.name} in {path.parent}; run in a system's directory or give --dir"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SpecError("bad_spec", f"{path.name} cannot be read: {error}") from error


def examine(content: Mapping[str, object]) -> tuple[Spec | None, tuple[Problem, ...]]:
    """Return the spec, None if it cannot be built, and every problem of its keys and values."""
    problems = tuple(_problems(content, Spec))
    if problems:
        return None, problems
    spec = msgspec.convert(content, Spec)
    return spec, (*_contradictions(spec), *_without_effect(spec))


def check(root: Path, _options: Namespace, _reporter: Reporter) -> dict[str, object]:
    """Command `check`: return the spec with all defaults filled in; SpecError with every problem, exit 2."""
    spec, problems = examine(read_toml(root / SPEC_FILE))
    found: dict[str, object] = {
        "spec": msgspec.to_builtins(spec),
        "problems": [problem.as_json() for problem in problems],
    }
    if problems:
        raise _refusal(problems, found)
    return found


def json_schema() -> dict[str, Any]:
    """Return system.schema.json: types and ranges from the structs, a description of every key from KEYS."""
    (reference,), components = msgspec.json.schema_components((Spec,), ref_template="#/$defs/{name}")
    for name, prefix in _table_prefixes(Spec, ""):
        for field, schema in components[name]["properties"].items():
            if key := KEYS.get(f"{prefix}{field}"):
                schema["description"] = key.about + (f" (not supported yet: {key.needs})" if key.needs else "")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **reference, "$defs": components}


def settings(table: _Table, prefix: str = "", pattern: str = "") -> Iterator[tuple[str, str, object, object]]:
    """Yield every key of a spec with its pattern in KEYS, its value and its default (None: it has none)."""
    for field in msgspec.structs.fields(table):
        value, key, shape = getattr(table, field.name), f"{prefix}{field.name}", f"{pattern}{field.name}"
        if isinstance(value, _Table):
            yield from settings(value, f"{key}.", f"{shape}.")
        elif isinstance(value, dict) and f"{shape}" not in KEYS:
            for name, item in cast("dict[str, object]", value).items():
                if isinstance(item, _Table):
                    yield from settings(item, f"{key}.{name}.", f"{shape}.*.")
                else:
                    yield f"{key}.{name}", f"{shape}.*", item, None
        else:
            yield key, shape, value, None if field.required else field.default


def seconds(duration: str) -> float:
    """Return a duration such as `5s`, `1h`, `30d` in seconds."""
    amount, unit = re.fullmatch(r"([\d.]+)([a-z]+)", duration).groups()  # type: ignore[union-attr]
    return float(amount) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}[unit]


def size_bytes(size: str) -> int:
    """Return a size such as `4MiB` in bytes."""
    amount, unit = re.fullmatch(r"([\d.]+)([A-Za-z]+)", size).groups()  # type: ignore[union-attr]
    return int(float(amount) * {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[unit])


def _refusal(problems: Iterable[Problem], result: Mapping[str, object] | None = None) -> SpecError:
    found = tuple(problems)
    sentences = "; ".join(problem.message for problem in found)
    details = [problem.as_json() for problem in found]
    return SpecError("bad_spec", f"{SPEC_FILE}: {sentences}", details=details, result=result)


def _problems(content: Mapping[str, object], table: type[_Table], prefix: str = "") -> Iterator[Problem]:
    """Walk over the keys of one table and name everything that is wrong with them."""
    hints = _hints(table)
    for name, value in content.items():
        if name not in hints:
            yield _unknown(prefix, name, hints)
        elif isinstance(value, Mapping):
            yield from _table_problems(cast("Mapping[str, object]", value), hints[name], f"{prefix}{name}")
        else:
            yield from _value_problems(value, hints[name], f"{prefix}{name}")
    for field in msgspec.structs.fields(table):
        if field.required and field.name not in content:
            key = f"{prefix}{field.name}"
            yield Problem("missing_key", key, f"{key} is required: {_about(key)}")


def _table_problems(content: Mapping[str, object], hint: Any, key: str) -> Iterator[Problem]:
    if _is_table(hint):
        yield from _problems(content, hint, f"{key}.")
    elif get_origin(hint) is dict:
        names, values = get_args(hint)
        for name, value in content.items():
            yield from _value_problems(name, names, f"{key}.{name}")
            if _is_table(values) and isinstance(value, Mapping):
                yield from _problems(cast("Mapping[str, object]", value), values, f"{key}.{name}.")
            else:
                yield from _value_problems(value, values, f"{key}.{name}")
    else:
        yield from _value_problems(content, hint, key)


def _value_problems(value: object, hint: Any, key: str) -> Iterator[Problem]:
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        yield Problem("bad_value", key, f"{key} must be {_expected(hint) or _plain(error)}, got {_toml(value)}")


def _contradictions(spec: Spec) -> Iterator[Problem]:
    """Name values that are fine alone and wrong together."""
    yield from _task_problems(spec)
    yield from _data_problems(spec)
    yield from _derive_problems(spec)
    yield from _monitoring_problems(spec)
    yield from _serving_problems(spec)


def _task_problems(spec: Spec) -> Iterator[Problem]:
    if spec.task.metric not in _METRICS[spec.task.kind]:
        allowed = ", ".join(_METRICS[spec.task.kind])
        message = f"task.metric {spec.task.metric!r} does not fit task.kind {spec.task.kind!r}; use one of {allowed}"
        yield Problem("bad_value", "task.metric", message)
    if spec.task.positive and spec.task.kind != "binary":
        yield Problem("bad_value", "task.positive", "task.positive belongs to task.kind 'binary' alone; remove it")


def _data_problems(spec: Spec) -> Iterator[Problem]:
    if spec.split.method == "time" and not spec.data.time:
        yield Problem("bad_value", "split.method", "split.method 'time' needs data.time, the column to split by")
    if spec.split.method == "group" and not spec.data.entity:
        yield Problem("bad_value", "split.method", "split.method 'group' needs data.entity, the column to group by")
    databases = [source for source in spec.data.source if source.startswith("env:")]
    if databases and len(spec.data.source) > 1:
        message = f"data.source names {databases[0]} beside others; it is either files or one database"
        yield Problem("bad_value", "data.source", message)
    if databases and not spec.data.query.strip():
        message = f"data.source {databases[0]} is a database: say in data.query which rows, as a SELECT"
        yield Problem("bad_value", "data.query", message)
    special = {"data.time": spec.data.time, "data.entity": spec.data.entity, "data.label_time": spec.data.label_time}
    for key, column in special.items():
        if column == spec.task.target:
            yield Problem("bad_value", key, f"{key} names the target {column!r}; it must be another column")


def _derive_problems(spec: Spec) -> Iterator[Problem]:
    for name, source in spec.derive.items():
        try:
            parse(source)
        except BadExpression as error:
            yield Problem("bad_value", f"derive.{name}", f"derive.{name}: {error}")


def _monitoring_problems(spec: Spec) -> Iterator[Problem]:
    if spec.monitoring.season and not spec.data.time:
        message = "monitoring.season needs data.time, the column of dates that tells which part of it a row is from"
        yield Problem("bad_value", "monitoring.season", message)
    if spec.monitoring.notify and not spec.monitoring.notify.startswith("env:"):
        message = "monitoring.notify must be env:VAR, a variable with the URL: the URL itself is a secret"
        yield Problem("bad_value", "monitoring.notify", message)


def _serving_problems(spec: Spec) -> Iterator[Problem]:
    if spec.serving.online and not spec.serving.online.startswith("env:"):
        message = "serving.online must be env:VAR, a variable with a Redis URL: the URL itself is a secret"
        yield Problem("bad_value", "serving.online", message)
    if not spec.serving.state.startswith(("sqlite:", "env:")):
        message = "serving.state must be sqlite:FILE or env:VAR, a variable with a PostgreSQL URL: the URL is a secret"
        yield Problem("bad_value", "serving.state", message)
    yield from _replica_problems(spec.serving)


def _replica_problems(serving: Serving) -> Iterator[Problem]:
    """Refuse servers that cannot share their state: SQLite is a file of one host."""
    replicas = serving.replicas
    if replicas.min > replicas.max:
        message = f"serving.replicas.min = {replicas.min} is more than serving.replicas.max = {replicas.max}"
        yield Problem("bad_value", "serving.replicas.min", message)
    if replicas.max > 1 and serving.state.startswith("sqlite:"):
        message = (
            f"serving.replicas.max = {replicas.max} needs a state that servers can share: "
            'set serving.state = "env:VAR", VAR holding a PostgreSQL URL, or one replica'
        )
        yield Problem("bad_value", "serving.replicas.max", message)


def _without_effect(spec: Spec) -> Iterator[Problem]:
    for key, pattern, value, default in settings(spec):
        if (needs := KEYS[pattern].needs) and value != default:
            remedy = "remove it" if default is None else f"remove it or set {_toml(default)}"
            message = f"{key} = {_toml(value)} is not supported yet, it needs {needs}: {remedy}"
            yield Problem("not_supported_yet", key, message)
    for key, applies, needs in _VALUES_WITHOUT_EFFECT:
        if applies(spec):
            message = f"{key} = {_toml(spec.value(key))} is not supported yet, it needs {needs}"
            yield Problem("not_supported_yet", key, message)


def _unknown(prefix: str, name: str, siblings: Iterable[str]) -> Problem:
    """Say which known key was probably meant: one of the same table, or the same word in another table."""
    key = f"{prefix}{name}"
    leaves = {known.rsplit(".", 1)[-1]: known for known in reversed(KEYS)}
    near = [f"{prefix}{sibling}" for sibling in difflib.get_close_matches(name, siblings, 1, 0.6)]
    near += [leaves[leaf] for leaf in difflib.get_close_matches(name, leaves, 1, 0.75)]
    nearest = near[0] if near else ""
    hint = f"; did you mean {nearest}?" if nearest else f"; known here: {', '.join(sorted(siblings))}"
    return Problem("unknown_key", key, f"unknown key {key}{hint}", nearest)


def _hints(table: type[_Table]) -> dict[str, Any]:
    return {name: hint for name, hint in get_type_hints(table, include_extras=True).items() if not name.startswith("_")}


def _is_table(hint: Any) -> TypeGuard[type[_Table]]:
    return isinstance(hint, type) and issubclass(hint, _Table)


def _table_prefixes(table: type[_Table], prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the name of every table's struct with the dotted prefix of its keys in KEYS."""
    yield table.__name__, prefix
    for name, hint in _hints(table).items():
        if _is_table(hint):
            yield from _table_prefixes(hint, f"{prefix}{name}.")
        elif get_origin(hint) is dict and _is_table(get_args(hint)[1]):
            yield from _table_prefixes(get_args(hint)[1], f"{prefix}{name}.*.")


def _about(key: str) -> str:
    return (
        KEYS[key].about
        if key in KEYS
        else "a table with at least "
        + ", ".join(known for known in KEYS if known.startswith(f"{key}.") and known in _REQUIRED)
    )


_REQUIRED: Final = ("task.kind", "task.target", "data.source")

_EXPECTED: Final = {
    Duration: 'a duration such as "60s", "15m" or "30d"',
    Size: 'a size such as "4MiB"',
    Name: "lower-case letters, digits and dashes, a letter first, at most 40",
}


def _expected(hint: Any) -> str:
    """Say what a value must be, where msgspec's own words would not help a person."""
    if hint in _EXPECTED:
        return _EXPECTED[hint]
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(_toml(choice) for choice in get_args(hint))
    return ""


_WORDS: Final = (
    ("Expected ", ""),
    ("`", ""),
    ("float", "a number"),
    ("int", "a whole number"),
    ("str", "a text"),
    ("object", "a table"),
    ("array", "a list"),
    ("bool", "true or false"),
    ("| null", ""),
)


def _plain(error: msgspec.ValidationError) -> str:
    """Return what msgspec expected in the words of the file's owner."""
    text = str(error).split(" - at ")[0].split(", got ")[0]
    for word, plain in _WORDS:
        text = text.replace(word, plain)
    return text.strip()


def _toml(value: object) -> str:
    """Return a value as it is written in TOML, shortened."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float)):
        return json.dumps(value, ensure_ascii=False)
    text = str(value if not isinstance(value, tuple) else list(cast("tuple[object, ...]", value))).replace("'", '"')
    return text if len(text) <= 60 else text[:59] + "…"
