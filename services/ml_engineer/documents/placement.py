"""Where the system is placed: servers, CPU, memory and schedules of the deployment files, from measured numbers.

Owns the arithmetic between objectives and what the server was measured to do. Without a measurement there are
defaults, and the files say that they are defaults. Leaves the files to the templates, and words to `view`.
"""

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from mlsystem.spec import Replicas, Spec, seconds, size_bytes
from services.ml_engineer.documents.view import View

_CPU_STEP_MILLIS: Final = 50
_LEAST_CPU_MILLIS: Final = 100
_UNMEASURED_CPU_MILLIS: Final = 500
_MEMORY_STEP_MB: Final = 16
_MEMORY_ROOM: Final = 1.25
"""Beyond what was measured: captures on their way, a large request."""
_UNMEASURED_MEMORY_MB: Final = 256
_SHARED_SERVERS: Final = 2
"""Fewest servers where they can share their state: one may fail."""
_PIPELINE_S: Final = 1800
"""For everything but the search: reading, measuring, packing."""
_STORE_VARIABLES: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL")
_DAY_S: Final = 86_400
_HOUR_S: Final = 3600
_VARIABLE: Final = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")


@dataclass(frozen=True)
class Placement:
    """A system as the deployment files see it."""

    view: View

    drain_s = 30
    """Longest that a stopping server waits for requests in flight."""
    leave_s = 5
    """Until every proxy knows that a server leaves."""
    grace_s = drain_s + leave_s + 5

    @property
    def _spec(self) -> Spec:
        return self.view.spec

    # ---- servers

    @property
    def capacity_rps(self) -> float | None:
        """Requests a second, one row each, that one server was seen to answer; None: not measured."""
        found = self.view.dossier.evaluation.latency.get("capacity_rps")
        measured = float(found) if isinstance(found, int | float) and not isinstance(found, bool) else 0.0
        return max(measured, self.view.rate_rps or 0.0) or None

    @property
    def cpu_percent(self) -> int:
        """Load of a server, in percent of its CPU request, at which another one is added."""
        return self._spec.serving.replicas.cpu

    @property
    def replicas_given(self) -> bool:
        """Whether the spec says how many servers there are."""
        given, usual = self._spec.serving.replicas, Replicas()
        return (given.min, given.max) != (usual.min, usual.max)

    @property
    def shared(self) -> bool:
        """Whether the spec's own state is one that several servers can share."""
        return not self._spec.serving.state.startswith("sqlite:")

    @property
    def busy(self) -> int:
        """Servers that carry the peak."""
        return self._carrying(self.view.peak_rps)

    @cached_property
    def replicas(self) -> tuple[int, int]:
        """Fewest and most servers: the spec's, or what carries the usual rate and the peak, and one more."""
        if self.replicas_given:
            return self._spec.serving.replicas.min, self._spec.serving.replicas.max
        if self.capacity_rps is None:
            return _SHARED_SERVERS, 2 * _SHARED_SERVERS
        fewest = max(_SHARED_SERVERS, self._carrying(self._spec.objectives.rate_rps) + 1)
        return fewest, max(fewest, self.busy) + 1

    def _carrying(self, rate_rps: float) -> int:
        if self.capacity_rps is None:
            return 1
        return max(1, math.ceil(rate_rps / (self.capacity_rps * self.cpu_percent / 100)))

    @property
    def cpu_millis(self) -> int:
        """CPU request of a server: at the peak it is busy to `cpu_percent` of it."""
        if self.capacity_rps is None:
            return _UNMEASURED_CPU_MILLIS
        share = self.view.peak_rps / (self.busy * self.capacity_rps * self.cpu_percent / 100)
        cores = share * self._spec.serving.workers
        return max(_LEAST_CPU_MILLIS, math.ceil(1000 * cores / _CPU_STEP_MILLIS) * _CPU_STEP_MILLIS)

    @property
    def memory_request_mb(self) -> int:
        """Memory request of a server."""
        measured = self.view.dossier.evaluation.memory_mb
        if measured is None:
            return _UNMEASURED_MEMORY_MB
        return math.ceil(measured * _MEMORY_ROOM / _MEMORY_STEP_MB) * _MEMORY_STEP_MB

    @property
    def memory_limit_mb(self) -> int:
        """Memory limit of a server."""
        return self.view.memory_limit_mb or 2 * _UNMEASURED_MEMORY_MB

    @property
    def tag(self) -> str:
        """Tag of the images: the version that they were made for."""
        return str(self.view.dossier.packaged.version)

    def bucket(self, place: str) -> str:
        """URL of the registry in a place: the spec's where it is an object store."""
        url = self._spec.registry.url
        return url if "://" in url else f"s3://{self.view.system}-{place}/registry"

    @property
    def serving_variables(self) -> tuple[str, ...]:
        """Environment variables that system.toml takes secrets of the server from."""
        return _variables(self._spec.serving.state, self._spec.serving.api_keys, self._spec.monitoring.notify)

    @property
    def secret_variables(self) -> tuple[str, ...]:
        """Environment variables that system.toml takes secrets from."""
        return tuple(dict.fromkeys((*_variables(*self._spec.data.source), *self.serving_variables)))

    @property
    def store_variables(self) -> tuple[str, ...]:
        """Environment variables that the registry's object store is reached by; none where it is a directory."""
        return _STORE_VARIABLES if "://" in self._spec.registry.url else ()

    @property
    def keys_variable(self) -> str:
        """The environment variable with the keys of callers; empty: the server is open."""
        return next(iter(_variables(self._spec.serving.api_keys)), "")

    # ---- pipeline

    @property
    def data_paths(self) -> tuple[str, ...]:
        """What of the repository the pipeline has to see: the folders of the data, or files at the top."""
        folders = (_folder(path) for path in self.view.sources_inside)
        return tuple(dict.fromkeys(folders))

    @property
    def training_memory(self) -> str:
        """Memory of the pipeline, as Kubernetes writes it."""
        return f"{math.ceil(size_bytes(self._spec.search.memory) / 2**20)}Mi"

    @property
    def pipeline_deadline_s(self) -> int:
        """Longest that the pipeline may take."""
        return _PIPELINE_S + math.ceil(2 * seconds(self._spec.search.budget))

    @property
    def pipeline_schedule(self) -> str:
        """Once a week where data may be a week old, else once a day."""
        return "17 3 * * 0" if seconds(self._spec.monitoring.freshness) >= 7 * _DAY_S else "17 3 * * *"

    @property
    def monitor_schedule(self) -> str:
        """Once a window, at most once in five minutes and at least once a day."""
        window_s = seconds(self._spec.monitoring.window)
        if window_s < _HOUR_S:
            return f"*/{max(5, int(window_s // 60))} * * * *"
        hours = int(window_s // _HOUR_S)
        return "7 * * * *" if hours == 1 else f"7 */{hours} * * *" if hours < 24 else "7 4 * * *"


def _variables(*values: str) -> tuple[str, ...]:
    return tuple(match.group(1) for value in values if (match := _VARIABLE.fullmatch(value)))


def _folder(path: str) -> str:
    """The part of a path that can be mounted as it is: no glob, and a folder where there is one."""
    parts = path.split("/")
    plain = next((place for place, part in enumerate(parts) if re.search(r"[*?\[]", part)), len(parts) - 1)
    return "/".join(parts[:plain]) or path
