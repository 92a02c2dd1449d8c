"""What monitoring stands on is there: the profile of training, and every metric that an alert rule reads."""

from __future__ import annotations

import http.client
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mlsystem.monitoring.profile import Profile
    from mlsystem.monitoring.sketch import Sketch
    from mlsystem.serving.model import Model
    from mlsystem.serving.process import Listening
    from mlsystem.stages import Workspace


@pytest.fixture
def profile(files: dict[str, bytes]) -> Profile:
    """What the version's training rows looked like."""
    from mlsystem.monitoring.profile import PROFILE, read_profile

    if PROFILE not in files:
        pytest.skip("the version was packaged without a profile: it is served without drift detection")
    return read_profile(files[PROFILE])


def test_the_profile_describes_what_the_model_is_fed(model: Model, profile: Profile) -> None:
    """One entry for each number and text of the contract, in the order of the tensors."""
    assert [feature.name for feature in profile.numbers] == list(model.boundary.numbers)
    assert [feature.name for feature in profile.strings] == list(model.boundary.strings)


def test_traffic_as_in_training_alerts_nobody(workspace: Workspace, profile: Profile) -> None:
    """A window that is distributed as the training rows were has no drift at all."""
    from mlsystem.monitoring.drift import drifts

    window = as_in_training(profile)
    found = drifts(profile, window, workspace.spec.monitoring, start=0.0, end=3600.0)
    assert {drift.feature.name: drift.level for drift in found if drift.level != "none"} == {}


def test_the_most_important_column_alerts_when_it_goes_missing(workspace: Workspace, profile: Profile) -> None:
    """Whoever stops sending what the model leans on is noticed in one window."""
    from mlsystem.monitoring.drift import drifts
    from mlsystem.monitoring.profile import MISSING

    window, features = as_in_training(profile), [*profile.numbers, *profile.strings]
    column = max(features, key=lambda feature: feature.importance).column
    for feature, place in zip(features, profile.places, strict=False):
        if feature.column == column:
            rows = window.counts[place].sum()
            window.counts[place] = 0
            window.counts[place.start + feature.bins.index(MISSING)] = rows
    found = drifts(profile, window, workspace.spec.monitoring, start=0.0, end=3600.0)
    assert {drift.level for drift in found if drift.feature.column == column} == {"alert"}


def as_in_training(profile: Profile) -> Sketch:
    """A window with the counts of training."""
    from mlsystem.monitoring.sketch import Sketch

    window = Sketch.empty(profile)
    for feature, place in zip(profile.features, profile.places, strict=True):
        window.counts[place] = profile.reference(feature, 0.0, 3600.0)
    window.rows = profile.rows
    return window


def test_every_metric_that_a_rule_reads_is_served(workspace: Workspace, server: Listening) -> None:
    """An alert on a metric that nobody has would never fire."""
    rules = workspace.root / "deploy" / "prometheus" / "rules.yml"
    if not rules.is_file():
        pytest.skip("there are no rules for Prometheus in deploy/prometheus")
    read = set(re.findall(r"\b(?:http|model|mlsystem)_[a-z_]+", rules.read_text(encoding="utf-8")))
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    try:
        connection.request("GET", "/metrics", headers=dict(server.headers))
        served = set(re.findall(r"^# TYPE (\S+)", connection.getresponse().read().decode(), re.MULTILINE))
    finally:
        connection.close()
    names = {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in read}
    assert names <= {re.sub(r"_total$", "", name) for name in served}
