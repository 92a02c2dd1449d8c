"""What a request says in plain words, and what it does not say although a number or a name stands there."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.events import AnswerValue
from services.ml_engineer.request import alternatives_in, hinted_in, kind_said, nearest, read, targets_in, words_of
from services.ml_engineer.slots import SLOTS_BY_ID, fill


def said(request: str, slot: str) -> AnswerValue | None:
    """What a request says of one slot."""
    return read(request).slots.get(slot)


def test_a_whole_request_is_read_at_once() -> None:
    """One sentence as people write it: data, goal, speed, load, peak, availability and rules."""
    request = (
        "Predict which customers will churn from data/telco_churn.csv; our web checkout calls it, p99 under 20 ms,\n"
        "50 req/s with spikes of 3x, 99.9 % availability, GDPR applies."
    )
    reading = read(request)
    assert reading.slots == {
        "business.goal": " ".join(request.split()),
        "nfr.latency": "20 ms p99",
        "scale.rate": "50 per second",
        "scale.spikes": "3x",
        "nfr.availability": "99.9 %",
        "security.regime": ["gdpr"],
    }
    assert (reading.paths, reading.named) == (("data/telco_churn.csv",), ())


@pytest.mark.parametrize(
    ("request_", "latency"),
    [
        ("p99 under 20 ms", "20 ms p99"),
        ("at most 200ms", "200 ms p99"),
        ("20ms p99", "20 ms p99"),
        ("latency < 0.5 s", "0.5 s p99"),
        ("it has to answer within 2 seconds", "2 s p99"),
        ("every request is answered within 20 ms", "20 ms p99"),
        ("p99 of 1,500 ms", "1500 ms p99"),
        ("99th percentile: 30 milliseconds", "30 ms p99"),
        ("median 5 ms, p99 20 ms", "20 ms p99"),
        ("p50 5 ms and p99 20 ms", "20 ms p99"),
        ("p50 under 5 ms p99 under 20 ms", "20 ms p99"),
        ("Our startup needs a 20-ms p99", "20 ms p99"),
        ("train for at most 60 s and answer in 20 ms", "20 ms p99"),
        ("p99 under 20 ms, no, rather under 5 ms", "5 ms p99"),
        ("a response within 1,5 s", "1.5 s p99"),
        ("die Antwort in 50 Millisekunden", "50 ms p99"),
    ],
)
def test_an_answer_time_is_read_as_people_write_it(request_: str, latency: str) -> None:
    """Whatever stands between the word and the number."""
    assert said(request_, "nfr.latency") == latency


@pytest.mark.parametrize(
    "request_",
    [
        "customers that cancel within 60 seconds of signup",
        "under 20 msgs a thread",
        "fewer than 3 sections",
        "train for at most 60 s",
        "retry every 200 ms",
        "timeout of 500 ms",
        "people born in the 1980s",
        "churn within 30 days",
        "median latency of 5 ms",
        "below 5 m/s",
        "data/20ms.csv",
    ],
)
def test_a_number_that_is_no_answer_time_is_left_alone(request_: str) -> None:
    """A training time, a time-out, a speed or a median would become a gate that nobody asked for."""
    assert said(request_, "nfr.latency") is None


@pytest.mark.parametrize(
    ("request_", "rate"),
    [
        ("50 req/s", "50 per second"),
        ("50/s", "50 per second"),
        ("2k rps", "2 k per second"),
        ("2k/s", "2 k per second"),
        ("3,000 predictions per minute", "3,000 per minute"),
        ("1 million a day", "1 million per day"),
        ("we expect 20 calls an hour", "20 per hour"),
        ("load: 15 an hour", "15 per hour"),
        ("1.5k requests each second", "1.5 k per second"),
        ("traffic peaks at 200 rps, usually 50 rps", "50 per second"),
    ],
)
def test_a_rate_is_read_as_people_write_it(request_: str, rate: str) -> None:
    """With its scale and its unit of time; a peak is not the usual rate."""
    assert said(request_, "scale.rate") == rate


@pytest.mark.parametrize(
    "request_",
    [
        "wind above 5 m/s",
        "wind above 5m/s",
        "cars at 120 km/h",
        "a wage of $15 per hour",
        "earns 15 an hour",
        "open 7 days a week",
        "predict 500 customers",
        "200 rps at peak",
        "bursts of 200 rps",
    ],
)
def test_a_number_that_is_no_usual_rate_is_left_alone(request_: str) -> None:
    """A speed read as millions of requests a second could never be served."""
    assert said(request_, "scale.rate") is None


@pytest.mark.parametrize(
    ("request_", "spikes"),
    [
        ("50 rps with spikes of 3x", "3x"),
        ("spikes of 3x over 50 rps", "3x"),
        ("10-fold bursts", "10x"),
        ("5 times at the peak", "5x"),
        ("50 rps peaking at 200 rps", "200 per second"),
        ("200 rps at peak", "200 per second"),
        ("50 rps", None),
        ("3 times a week", None),
        ("the spike protein", None),
    ],
)
def test_a_peak_is_a_multiple_or_a_rate_of_its_own(request_: str, spikes: str | None) -> None:
    """Beside a word of peaks alone."""
    assert said(request_, "scale.spikes") == spikes


@pytest.mark.parametrize(
    ("request_", "availability"),
    [
        ("99.9% uptime", "99.9 %"),
        ("availability of 99,95 %", "99.95 %"),
        ("an SLA of 99.9 percent", "99.9 %"),
        ("95 % recall and 99.9 % availability", "99.9 %"),
        ("available 99% of the time with 95% accuracy", "99 %"),
        ("95 % of customers", None),
        ("accuracy of at least 95%", None),
        ("95% confidence; the service is available in May", None),
        ("uptime matters", None),
    ],
)
def test_a_percentage_is_an_availability_only_beside_its_word(request_: str, availability: str | None) -> None:
    """An accuracy or a share of customers is not a service level."""
    assert said(request_, "nfr.availability") == availability


@pytest.mark.parametrize(
    ("request_", "regime"),
    [
        ("GDPR and HIPAA apply", ["gdpr", "hipaa"]),
        ("we are hipaa compliant", ["hipaa"]),
        ("PCI-DSS", ["pci"]),
        ("PCI DSS applies", ["pci"]),
        ("HIPAA and not GDPR", ["hipaa"]),
        ("We are not sure, GDPR applies", ["gdpr"]),
        ("no HIPAA data", "none"),
        ("there is no GDPR, HIPAA or PCI here", "none"),
        ("GDPR does not apply", "none"),
        ("a specific topic", None),
    ],
)
def test_a_regulation_is_read_unless_it_is_denied(request_: str, regime: AnswerValue | None) -> None:
    """A denial is an answer too: nothing is asked again. Names are those that the spec knows."""
    assert said(request_, "security.regime") == regime


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        ("a regression of cnt", "regression"),
        ("regress the price", "regression"),
        ("a logistic regression of churn", ""),
        ("Forecasting sales", "forecast"),
        ("forecast demand", "forecast"),
        ("we know the weather forecast", ""),
        ("classify wines", "classification"),
        ("a classifier", "classification"),
        ("predict churn", ""),
        ("predict churn from regression.csv", ""),
    ],
)
def test_the_kind_is_what_is_said_of_the_target_not_of_the_model(request_: str, kind: str) -> None:
    """Logistic regression classifies; a file's name says nothing."""
    assert kind_said(request_) == kind


@pytest.mark.parametrize(
    ("request_", "paths"),
    [
        ("from data/churn.csv.", ("data/churn.csv",)),
        ("from ./data/churn.csv, please", ("./data/churn.csv",)),
        ('from "data/my customers.csv"', ("data/my customers.csv",)),
        ("the customers' rows in 'my file.csv'", ("my file.csv",)),
        ("from `churn.parquet`", ("churn.parquet",)),
        ("from /srv/shop/x.csv and b.tsv", ("/srv/shop/x.csv", "b.tsv")),
        ("from file:///srv/my%20shop/x.csv", ("file:///srv/my%20shop/x.csv",)),
        ("from ~/x.csv", ("~/x.csv",)),
        ("from ../x.csv", ("../x.csv",)),
        ("a/date=2024-01-01/part-0.csv.gz", ("a/date=2024-01-01/part-0.csv.gz",)),
        ("données/clients_é.csv", ("données/clients_é.csv",)),
        ("a.csv, b.csv and a.csv", ("a.csv", "b.csv")),
        ("DATA.CSV", ("DATA.CSV",)),
        ("data/part-*.csv", ("data/part-*.csv",)),
        ("rows.json", ("rows.json",)),
        ("rows.csv, not package.json", ("rows.csv",)),
        ("the table in shop.db", ("shop.db",)),
        ("sales.xlsx", ("sales.xlsx",)),
        ("churn.csv; the versions are in requirements.txt", ("churn.csv",)),
        ("notes.txt", ("notes.txt",)),
        ("https://example.com/a/churn.csv", ("https://example.com/a/churn.csv",)),
        ("s3://bucket/churn", ("s3://bucket/churn",)),
        ("our shop is https://shop.example.com", ()),
        ("the csv format", ()),
        ("churn.csvx", ()),
    ],
)
def test_files_are_found_as_people_write_them(request_: str, paths: tuple[str, ...]) -> None:
    """Quoted with blanks, absolute, compressed; an address elsewhere is found too, so that it can be refused."""
    assert read(request_).paths == paths


@pytest.mark.parametrize(
    ("request_", "columns", "meant"),
    [
        ("Predict churn.", ["Churn", "tenure"], ("Churn",)),
        ("Predict churn", ["Churn", "churn"], ("churn",)),
        ("target: churned", ["churned", "plan"], ("churned",)),
        ("target=churned", ["churned", "plan"], ("churned",)),
        ("predict 'Sale Price' from Area", ["Sale Price", "Area"], ("Sale Price",)),
        ("predict customer churn", ["customer", "churn"], ("churn",)),
        ("predict the customer's churn", ["customer", "churn"], ("churn",)),
        ("predict house prices", ["SalePrice", "Lot"], ()),
        ("who will be churning", ["Churn", "Plan"], ("Churn",)),
        ("predict bookings", ["booked", "guests"], ("booked",)),
        ("which class is it", ["class", "x"], ("class",)),
        ("prédire naïveté", ["naïveté", "x"], ("naïveté",)),
        ("weather.max tomorrow", ["weather.max", "weather.min"], ("weather.max",)),
        ("cost and revenue", ["cost", "revenue", "x"], ("cost", "revenue")),
        ("predict it from churned.csv", ["churned", "x"], ()),
        ("predict a", ["a", "b"], ("a",)),
        ("a thing", ["a", "b"], ()),
    ],
)
def test_the_target_is_the_column_that_the_request_means(
    request_: str, columns: list[str], meant: tuple[str, ...]
) -> None:
    """A called or quoted name, then a name that occurs, then a word of the same stem; a file's name is no column."""
    assert targets_in(request_, columns) == meant


def test_a_column_that_names_somebody_is_meant_only_where_it_is_quoted() -> None:
    """`which customers` asks who, and never for the customer's id."""
    columns, naming = ["customer", "plan"], ["customer"]
    requests = ("which customers leave", "predict the customer", "predict `customer`")
    assert [targets_in(request, columns, naming) for request in requests] == [(), (), ("customer",)]


@pytest.mark.parametrize(
    ("request_", "columns", "hinted"),
    [
        ("predict house prices", ["SalePrice", "Lot"], ("SalePrice",)),
        ("cancellations per day", ["is_cancelled", "day"], ("is_cancelled",)),
        ("Sage die Kündigung vorher", ["Gekündigt", "Alter"], ("Gekündigt",)),
        ("predict internet usage", ["international_plan", "x"], ()),
    ],
)
def test_a_word_that_is_akin_is_a_hint(request_: str, columns: list[str], hinted: tuple[str, ...]) -> None:
    """The same stem, or the greater part of both words from their beginning."""
    assert hinted_in(request_, columns) == hinted


@pytest.mark.parametrize(
    ("request_", "cost"),
    [
        ("a missed default costs 50 times as much as a false alarm", "false positive 1, false negative 50"),
        ("false positives cost 3x as much as missed ones", "false positive 3, false negative 1"),
        ("a false alarm costs 5 euros, a missed fraud 1,000 euros", "false positive 5, false negative 1000"),
        ("missing a churner costs $300 and a false positive $5", "false positive 5, false negative 300"),
        ("missing a default costs ten times a false alarm", "false positive 1, false negative 10"),
        ("a false alarm costs twice what a missed case does", "false positive 2, false negative 1"),
        ("we missed 3 of 10 at no cost", None),
    ],
)
def test_what_errors_cost_is_read_where_both_are_told(request_: str, cost: str | None) -> None:
    """In money, or how many times as much; the threshold follows from it."""
    assert said(request_, "business.cost_of_error") == cost


def test_a_target_that_is_called_by_name_is_remembered_even_if_no_column_has_it() -> None:
    """So that the nearest names can be suggested; words that are no name are left out."""
    assert read("Predict churnd from a.csv").named == ("churnd",)
    assert read("Predict which customers leave").named == ()
    assert nearest("churnd", ["Churn", "Tenure"]) == ("Churn",)
    assert words_of("MonthlyCharges_EUR") == ("monthly", "charges", "eur")


@pytest.mark.parametrize(
    "word", ["1 ms ", "1 rps ", "no gdpr ", "a.a.", "a/", "'\"", "x://", "99 % uptime ", "é", "p99 "]
)
def test_a_long_hostile_request_is_read_in_linear_time(word: str) -> None:
    """A request is read on the service's loop: 20,000 characters of anything may not hold up the others."""
    request = (word * 20_000)[:20_000]
    began = time.process_time()
    read(request)
    targets_in(request, ["a", "bb"])
    assert time.process_time() - began < 3


FRAGMENTS = (
    *("0", "1", "99.9", "1,500", "-5", "p99", "ms", "s", "%", "rps", "/s", "per day", "k", "million", "x", "requests"),
    *("peak", "spikes", "latency", "within", "uptime", "GDPR", "PCI-DSS", "no", "not", "and", ",", ".", "\n", "é"),
)


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=14), st.sampled_from(["", " "]))
def test_whatever_is_read_can_be_used(words: list[str], between: str) -> None:
    """Every slot that a request fills is one that its effect can read, or that is asked all the same."""
    reading = read(between.join(words))
    for slot, known in fill(reading.slots, {}, ()).items():
        SLOTS_BY_ID[slot].effect(known.value)


@pytest.mark.parametrize(
    ("request_", "meant"),
    [
        ("Predict left or cancelled from a.csv", ("left", "cancelled")),
        ("predict `left` and the `cancelled`", ("left", "cancelled")),
        ("target is left/cancelled", ("left", "cancelled")),
        ("predict left", ()),
        ("predict left and save it", ()),
        ("predict left from cancelled", ()),
        ("predict left, cancelled is known", ()),
    ],
)
def test_targets_that_are_named_side_by_side_are_alternatives(request_: str, meant: tuple[str, ...]) -> None:
    """Which of them is meant is a question, whatever the data would suggest."""
    assert alternatives_in(request_, ["left", "cancelled", "price"]) == meant
