"""What a request is after, and when it speaks of; pure text."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import JsonValue

from services.ml_engineer.intent import Action, Intent, read, refused_servers, systems_meant, unlearnt
from services.ml_engineer.moments import moment_in

NOW = datetime(2026, 11, 24, 14, 30, tzinfo=timezone(timedelta(hours=1)))  # a Tuesday
SPECS: dict[str, dict[str, JsonValue]] = {
    "telco-churn": {"task": {"target": "Churn"}},
    "bike-day": {"task": {"target": "cnt"}},
    "churn": {"task": {"target": "churned"}},
}


@pytest.mark.parametrize(
    ("request_text", "action"),
    [
        ("Retrain churn on the new file", "retrain"),
        ("please re-train the model with data/may.csv", "retrain"),
        ("Can you train telco-churn again?", "retrain"),
        ("roll back churn", "rollback"),
        ("Could you rollback telco-churn to version 3", "rollback"),
        ("We need you to revert the churn model", "rollback"),
        ("promote version 4 of churn", "promote"),
        ("Make version 2 live", "promote"),
        ("why did churn get worse since Monday", "explain"),
        ("Why has the accuracy of bike-day dropped?", "explain"),
        ("How is churn doing this week?", "explain"),
        ("what was live yesterday at noon", "history"),
        ("Which version of churn is in production?", "history"),
        ("deploy this ONNX model: models/risk.onnx", "adopt"),
        ("Serve `my models/risk.pt` behind our API", "adopt"),
        ("Upgrade the engine of churn", "upgrade"),
        ("Predict churn from data/churn.csv, with a rollback plan and automated retraining", "build"),
        ("Predict which customers churn; deploy it to our web checkout, p99 under 20 ms", "build"),
        ("We want to predict sales and know why they drop off in May", "build"),
        ("Build a system that we can retrain weekly from data/sales.csv", "build"),
    ],
)
def test_a_request_is_a_command_only_when_it_begins_with_one(request_text: str, action: Action) -> None:
    """A wish for a system that can be rolled back is a wish for a system."""
    assert read(request_text).action == action


@pytest.mark.parametrize(
    ("request_text", "intent"),
    [
        ("roll back churn to version 3", Intent("rollback", version=3)),
        ("promote v12", Intent("promote", version=12)),
        ("deploy `my models/risk.onnx`", Intent("adopt", model="my models/risk.onnx")),
        ("Deploy this ONNX model: models/risk.onnx", Intent("adopt", model="models/risk.onnx")),
        ("retrain on the latest data", Intent("retrain", new_data=True)),
    ],
)
def test_what_a_command_names_is_read(request_text: str, intent: Intent) -> None:
    """Versions, files, and whether other data are meant."""
    assert read(request_text) == intent


@pytest.mark.parametrize(
    ("request_text", "meant"),
    [
        ("roll back telco-churn", ("telco-churn",)),
        ("roll back telco churn", ("telco-churn",)),
        ("roll back churn", ("churn",)),
        ("roll back the bike model", ("bike-day",)),
        ("what was live yesterday", ("telco-churn", "bike-day", "churn")),
        ("why are the predictions of cnt worse", ("bike-day",)),
    ],
)
def test_a_system_is_known_by_its_name_or_a_word_of_it(request_text: str, meant: tuple[str, ...]) -> None:
    """The longest whole name first; a request that names none may mean any."""
    assert systems_meant(request_text, SPECS) == meant


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("yesterday at noon", "2026-11-23T12:00:00+01:00"),
        ("yesterday noon", "2026-11-23T12:00:00+01:00"),
        ("since Monday", "2026-11-23T00:00:00+01:00"),
        ("since Tuesday", "2026-11-17T00:00:00+01:00"),
        ("on 2026-11-20", "2026-11-20T00:00:00+01:00"),
        ("on 2026-11-20 at 3 pm", "2026-11-20T15:00:00+01:00"),
        ("at 2026-11-20T08:15:00Z", "2026-11-20T08:15:00+00:00"),
        ("3 days ago", "2026-11-21T14:30:00+01:00"),
        ("an hour ago", "2026-11-24T13:30:00+01:00"),
        ("last week", "2026-11-17T14:30:00+01:00"),
        ("today at 9:45", "2026-11-24T09:45:00+01:00"),
        ("at 12 am", "2026-11-24T00:00:00+01:00"),
        ("Friday evening", "2026-11-20T18:00:00+01:00"),
    ],
)
def test_a_moment_is_read_as_people_write_it(text: str, moment: str) -> None:
    """In the asker's time zone; the name of a day is the last such day."""
    assert moment_in(text, NOW) == datetime.fromisoformat(moment)


@pytest.mark.parametrize("text", ["why is churn worse", "version 3", "at 25:70", "on 2026-13-40"])
def test_what_is_no_moment_is_none(text: str) -> None:
    """Nothing is guessed; a day or a time that does not exist is none, or its day alone."""
    found = moment_in(text, NOW.astimezone(UTC))
    assert found is None or found == NOW.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def test_a_server_that_is_denied_is_not_asked_for() -> None:
    """`without TorchServe` asks for nothing."""
    assert refused_servers("predict churn, without TorchServe please") == ()
    assert len(refused_servers("predict churn on TF Serving and torch-serve")) == 2


@pytest.mark.parametrize(
    ("request_text", "needed"),
    [
        ("Cluster the customers in data.csv into 5 segments", "the group of each row"),
        ("Build an LLM chatbot that answers questions about data.csv", "a column that is to be predicted"),
        ("Train an image classifier on photos/", "with a target"),
        ("Recommend products to our users", "whether an offer was bought"),
        ("detect anomalies in logs.csv", "which rows were such cases"),
    ],
)
def test_what_is_not_learnt_from_a_table_is_refused_with_what_would_be_needed(request_text: str, needed: str) -> None:
    """Another model than the one that was asked for would be no answer."""
    assert needed in unlearnt(request_text)


@pytest.mark.parametrize(
    "request_text", ["Predict the segment of each customer", "which customers leave, grouped by store", "Predict churn"]
)
def test_what_has_a_target_is_learnt(request_text: str) -> None:
    """A word that only reminds of something else refuses nothing."""
    assert unlearnt(request_text) == ""
