"""What is understood, what is asked, and what is never asked: pure, from request, briefing, answers and profile."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.briefing import Fact
from contracts.events import AnswerValue
from services._runtime.errors import Permanent
from services.ml_engineer.engine import Candidate, ColumnProfile, Problem
from services.ml_engineer.quantities import UnreadableError
from services.ml_engineer.request import read
from services.ml_engineer.slots import SLOTS_BY_ID, Known
from services.ml_engineer.understanding import acknowledged
from tests.services.ml_engineer.made import CHURNED, COLUMNS, fact, profile, understand

ASKED_BY_DEFAULT = (
    "scale.rate",
    "scale.spikes",
    "data.known_at_prediction",
    "nfr.latency",
    "nfr.availability",
    "security.pii",
    "security.regime",
)
CLOSE = (CHURNED, Candidate(target="plan", kind="multiclass", score=0.85))


def test_a_target_that_the_request_names_is_known() -> None:
    """Whatever the case it is written in; its kind follows from the data."""
    found = understand("Predict Churned")
    assert found.known["task.target"] == Known("task.target", "churned", "request", "the request")
    assert found.known["task.kind"] == Known("task.kind", "binary", "workspace", "the data")
    assert tuple(question.id for question in found.questions) == ASKED_BY_DEFAULT


def test_a_target_that_nobody_named_is_asked_with_the_clear_candidate_as_default() -> None:
    """The evidence says why; accepting defaults takes it and decides the kind."""
    question, *rest = understand("Predict what matters").questions
    assert (question.id, question.default, question.evidence) == (
        "task.target",
        "churned",
        ("churned: binary, two values",),
    )
    assert tuple(item.id for item in rest) == ASKED_BY_DEFAULT
    assumed = understand("Predict what matters", accept_defaults=True)
    assert assumed.questions == ()
    assert (assumed.known["task.target"].value, assumed.known["task.target"].origin) == ("churned", "default")
    assert assumed.known["task.kind"].value == "binary"


@pytest.mark.parametrize("candidates", [CLOSE, (), (Candidate(target="plan", kind="multiclass", score=0.4),)])
def test_without_a_clear_candidate_the_target_has_no_default_and_waits(candidates: tuple[Candidate, ...]) -> None:
    """A guess about what to predict would be the whole system wrong: defaults do not help."""
    found = understand("Predict what matters", data=profile(candidates=candidates), accept_defaults=True)
    assert [(question.id, question.default) for question in found.questions] == [("task.target", None)]
    assert found.must_wait
    assert found.questions[0].evidence


def test_two_columns_that_the_request_may_mean_are_a_question() -> None:
    """Named side by side, both could be a target: the request does not decide."""
    found = understand("Predict churned or plan", data=profile(candidates=CLOSE), accept_defaults=True)
    assert [(question.id, question.default, question.evidence) for question in found.questions] == [
        ("task.target", None, ("the request may mean churned, plan",))
    ]


def test_a_column_that_only_occurs_does_not_rival_one_that_can_be_predicted() -> None:
    """`by plan and tenure` names features; of several columns the ones that could be a target count."""
    assert understand("churned customers by plan, by tenure").known["task.target"].value == "churned"


def test_who_is_predicted_is_not_what_is_predicted() -> None:
    """The column that names customers is no target, whether each of them has one row or several."""
    named = profile().model_copy(update={"problems": (Problem(code="id_like", columns=("customer",)),)})
    several = profile((ColumnProfile(name="customer_id", type="integer", distinct=90), *COLUMNS[1:]))
    several = several.model_copy(update={"entity": ("customer_id",)})
    for data in (named, several):
        found = understand("Predict which customers will leave", data=data, accept_defaults=True)
        assert (found.known["task.target"].value, found.known["task.target"].origin) == ("churned", "default")


def test_a_hint_counts_only_where_nothing_else_is_clearly_the_target() -> None:
    """`plans` may mean the plan's name, and is no rival of a column that is a target by all signs."""
    columns = (*COLUMNS[1:3], ColumnProfile(name="plan_name", type="category", distinct=3), COLUMNS[4])
    assert understand("Which plans are left", data=profile(columns)).questions[0].default == "churned"
    alone = understand("Which plans are left", data=profile(columns, candidates=()))
    assert alone.known["task.target"].value == "plan_name"


def test_what_cannot_be_met_is_asked_and_no_default_replaces_it() -> None:
    """An answer in no time is a wish that is not silently dropped."""
    found = understand("Predict churned, p99 under 0 ms", accept_defaults=True)
    assert [(question.id, question.default, question.evidence) for question in found.questions] == [
        ("nfr.latency", None, ("the request says 0 ms p99, which cannot be met",))
    ]


def test_a_target_that_is_not_there_is_asked_with_the_nearest_names() -> None:
    """No default: nobody knows whether the nearest is meant."""
    found = understand("Predict churnd", accept_defaults=True)
    assert [(question.id, question.default, question.evidence) for question in found.questions] == [
        ("task.target", None, ("the data has no column 'churnd'; nearest: churned",))
    ]
    far = understand("Predict zzzz", accept_defaults=True).questions[0].evidence
    assert far == ("the data has no column 'zzzz'; columns: customer, signed, tenure, plan, churned",)


def test_an_answered_target_that_is_not_there_fails_with_the_nearest_names() -> None:
    """An answer is final: asking again about an answered field would break the protocol."""
    with pytest.raises(Permanent, match=r"no column 'churnd' to predict: the nearest are churned\. Submit again"):
        understand("Predict", answers={"task.target": "churnd"})
    with pytest.raises(Permanent, match="it has customer, signed, tenure, plan, churned"):
        understand("Predict", answers={"task.target": "zzzz"})


def test_an_answer_decides_the_target_whatever_the_request_says() -> None:
    """And is spelled as the data spell it."""
    found = understand("Predict plan", answers={"task.target": "CHURNED"})
    assert found.known["task.target"] == Known("task.target", "churned", "answer", "an answer")


def test_columns_that_differ_in_case_alone_are_told_apart() -> None:
    """The exact spelling counts; without it the answer is not clear."""
    columns = (*COLUMNS, ColumnProfile(name="Churned", type="category", distinct=2))
    found = understand("Predict", answers={"task.target": "Churned"}, data=profile(columns))
    assert found.known["task.target"].value == "Churned"
    with pytest.raises(Permanent, match="nearest are"):
        understand("Predict", answers={"task.target": "CHURNED"}, data=profile(columns))


def test_the_request_wins_over_a_target_that_the_workspace_says() -> None:
    """The workspace's word counts where the request has none, and never when the data have no such column."""
    told = (fact("task.target", "plan"),)
    assert understand("Predict churned", facts=told).known["task.target"].value == "churned"
    assert understand("Predict", facts=told).known["task.target"].value == "plan"
    strange = understand("Predict", facts=(fact("task.target", "gone"),))
    assert strange.questions[0].id == "task.target"
    assert "task.target" not in strange.known


@pytest.mark.parametrize(
    ("request_", "answer", "target", "kind"),
    [
        ("predict churned", None, "churned", "binary"),
        ("a logistic regression of churned", None, "churned", "binary"),
        ("forecast churned", None, "churned", "binary"),
        ("a regression of churned", None, "churned", "binary"),
        ("predict tenure", None, "tenure", "regression"),
        ("forecast tenure", None, "tenure", "regression"),
        ("classify tenure", None, "tenure", "multiclass"),
        ("classify plan", None, "plan", "multiclass"),
        ("predict tenure", "multiclass", "tenure", "multiclass"),
        ("predict tenure", "Classification", "tenure", "multiclass"),
        ("classify tenure", "regression", "tenure", "regression"),
        ("predict churned", "forecast", "churned", "binary"),
        ("predict tenure", "forecast", "tenure", "regression"),
    ],
)
def test_the_kind_is_what_was_said_where_the_data_allow_it(
    request_: str, answer: str | None, target: str, kind: str
) -> None:
    """A text cannot be regressed on; a forecast of numbers is a regression until series models are built."""
    found = understand(request_, answers={"task.kind": answer} if answer else {})
    assert (found.known["task.target"].value, found.known["task.kind"].value) == (target, kind)
    assert found.forecast == ("forecast" in f"{request_} {answer}" and kind == "regression")


def test_defaults_are_taken_only_where_nobody_said_anything() -> None:
    """And are remembered as defaults, so that they can be told as assumptions."""
    facts = (fact("scale.rate", "7 rps", source="/README.md:4"),)
    found = understand("Predict churned, p99 under 20 ms", facts=facts, accept_defaults=True)
    assert found.questions == ()
    origins = {slot: known.origin for slot, known in found.known.items()}
    assert origins == {
        "task.data": "request",
        "business.goal": "request",
        "nfr.latency": "request",
        "scale.rate": "workspace",
        "task.target": "request",
        "task.kind": "workspace",
        "scale.spikes": "default",
        "data.known_at_prediction": "default",
        "nfr.availability": "default",
        "security.pii": "default",
        "security.regime": "default",
    }


def test_what_is_known_is_acknowledged_with_its_source() -> None:
    """The first words to a person say what need not be asked."""
    facts = (fact("stack.language", "node 20", source="/package.json:3"), fact("scale.rate", "7 rps", source="/R.md:4"))
    told = acknowledged(understand("Predict churned", facts=facts))
    assert told == (
        "data: /data/churn.csv, 600 rows, 5 columns",
        "scale rate: 7 rps (/R.md:4)",
        "task data: /data/churn.csv (the request)",
        "task target: churned (the request)",
        "task kind: binary (the data)",
        "language: node 20 (/package.json:3)",
    )


def test_a_passing_mention_is_evidence_not_an_answer() -> None:
    """It is asked, and the question shows what was seen."""
    facts = (fact("scale.rate", "7 rps", 0.3, "/notes.md:9"),)
    question = next(item for item in understand("Predict churned", facts=facts).questions if item.id == "scale.rate")
    assert question.evidence == ("7 rps (/notes.md:9)",)


VALUES: dict[str, tuple[str, ...]] = {
    "task.target": ("churned", "plan", "gone"),
    "task.kind": ("binary", "forecast", "nonsense"),
    "scale.rate": ("7 rps", "many"),
    "scale.spikes": ("3x", "200 rps", "high"),
    "data.known_at_prediction": ("yes", "tenure", "no"),
    "data.time": ("signed", "gone"),
    "nfr.latency": ("20 ms", "fast"),
    "nfr.availability": ("99.9 %", "always"),
    "security.pii": ("none", "column customer in /data/churn.csv", "yes"),
    "security.regime": ("gdpr", "none", "CCPA"),
    "business.goal": ("Keep customers",),
}
WORDS = (
    "Predict churned",
    "p99 under 20 ms",
    "50 rps",
    "3x spikes",
    "99.9 % uptime",
    "GDPR",
    "no HIPAA",
    "plan",
    "0 rps",
)

told_facts = st.lists(
    st.sampled_from(sorted(VALUES)).flatmap(
        lambda slot: st.builds(
            fact, st.just(slot), st.sampled_from(VALUES[slot]), st.sampled_from((0.3, 0.49, 0.5, 0.9))
        )
    ),
    max_size=8,
)
given_answers = st.lists(st.sampled_from(sorted(VALUES)), unique=True).map(
    lambda slots: {slot: VALUES[slot][0] for slot in slots}
)


def usable(slot: str, value: AnswerValue) -> bool:
    """Whether a value says what its slot needs; a target must be a column."""
    try:
        SLOTS_BY_ID[slot].effect(value)
    except UnreadableError:
        return False
    return slot != "task.target" or value in {column.name for column in COLUMNS}


@given(st.lists(st.sampled_from(WORDS)).map(", ".join), told_facts, given_answers, st.booleans())
def test_nothing_is_asked_that_facts_request_or_answers_fill(
    request_: str, facts: list[Fact], answers: dict[str, AnswerValue], accept_defaults: bool
) -> None:
    """The seed's rule: never ask what is known already. What is left is asked once, and waits if it has no default."""
    found = understand(request_ or "go", answers=answers, facts=facts, accept_defaults=accept_defaults)
    asked = [question.id for question in found.questions]
    filled = set(answers)
    filled |= {slot for slot, value in read(request_).slots.items() if usable(slot, value)}
    filled |= {
        f"{item.slot}.{item.field}"
        for item in facts
        if item.confidence >= 0.5 and usable(f"{item.slot}.{item.field}", item.value)
    }
    assert set(asked) & filled == set()
    assert len(asked) == len(set(asked))
    assert set(asked) & set(found.known) == set()
    assert not accept_defaults or all(question.default is None for question in found.questions)
