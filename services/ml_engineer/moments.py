"""Reads when something was, as people write it: `yesterday at noon`, `since Monday`, `2026-11-20 14:30`, `3 days ago`.

Pure: text and the moment of asking in, a moment out. A day without a time is its beginning. Names of days mean the
last such day before the asking; what is no moment is None, never a guess.
"""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_HOURS: Final = {"midnight": 0, "morning": 8, "noon": 12, "midday": 12, "afternoon": 15, "evening": 18, "tonight": 20}
_UNITS: Final = {"minute": 60, "hour": 3600, "day": 86_400, "week": 7 * 86_400, "month": 30 * 86_400}

_ISO = re.compile(r"\b(\d{4}-\d{2}-\d{2})(?:[T ](?:at )?(\d{1,2}:\d{2}(?::\d{2})?)(Z|[+-]\d{2}:\d{2})?)?")
_AGO = re.compile(rf"\b(\d+|an?|one|two|three) ({'|'.join(_UNITS)})s?\s+ago\b", re.IGNORECASE)
_PAST = re.compile(rf"\b(?:last|past)\s+(?:(\d+)\s+)?({'|'.join(_UNITS)})s?\b", re.IGNORECASE)
_NAMED = re.compile(rf"\b(today|yesterday|{'|'.join(_DAYS)})\b", re.IGNORECASE)
_CLOCK = re.compile(r"\bat\s+(\d{1,2})(?::(\d{2}))?\s*(am|pm)?\b", re.IGNORECASE)
_TIME_OF_DAY = re.compile(rf"\b({'|'.join(_HOURS)})\b", re.IGNORECASE)
_COUNTS: Final = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3}


def moment_in(text: str, now: datetime) -> datetime | None:
    """The moment that a text names, in the time zone of `now`, which is aware; None where it names none."""
    readers: tuple[Callable[[str, datetime], datetime | None], ...] = (_absolute, _ago, _past, _day)
    return next((found for read in readers if (found := read(text, now)) is not None), None)


def _absolute(text: str, now: datetime) -> datetime | None:
    match = _ISO.search(text)
    if match is None:
        return None
    day, clock, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{(clock or '00:00').zfill(5)}{zone or ''}")
    except ValueError:
        return None
    if clock is None:
        moment = _at_time(text, moment)
    return moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)


def _ago(text: str, now: datetime) -> datetime | None:
    match = _AGO.search(text)
    if match is None:
        return None
    word = match[1].lower()
    return now - timedelta(seconds=_UNITS[match[2].lower()] * (_COUNTS.get(word) or int(word)))


def _past(text: str, now: datetime) -> datetime | None:
    match = _PAST.search(text)
    return None if match is None else now - timedelta(seconds=_UNITS[match[2].lower()] * int(match[1] or 1))


def _day(text: str, now: datetime) -> datetime | None:
    match = _NAMED.search(text)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if match is None:
        return _at_time(text, today) if _CLOCK.search(text) else None
    word = match[1].lower()
    back = {"today": 0, "yesterday": 1}.get(word)
    if back is None:
        back = (now.weekday() - _DAYS.index(word)) % 7 or 7
    return _at_time(text, today - timedelta(days=back))


def _at_time(text: str, day: datetime) -> datetime:
    """The day at the time that the text names; its beginning where it names none."""
    if (clock := _CLOCK.search(text)) is not None:
        hour, minute = int(clock[1]), int(clock[2] or 0)
        half = (clock[3] or "").lower()
        hour = hour % 12 + 12 * (half == "pm") if half else hour
        return day.replace(hour=hour, minute=minute) if hour < 24 and minute < 60 else day
    named = _TIME_OF_DAY.search(text)
    return day.replace(hour=_HOURS[named[1].lower()]) if named else day
