"""People who do not exist, with every identifier that a file can hold about them; check digits are right.

Deterministic: the same seed gives the same people. The corpus of `tests/bench/pii` and the tests of governance share
it. Nothing here is anybody's: numbers are drawn, names come from short lists.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from random import Random
from typing import Final

from mlsystem.governance import checksums

Maker = Callable[[Random], str]

FIRST: Final = ("Anna", "Bram", "Chloé", "Dirk", "Eva", "Femke", "Giulia", "Hans", "Inés", "Jürgen", "Mary-Ann", "Noor")
LAST: Final = ("de Vries", "Müller", "García", "Rossi", "Dubois", "Jansen", "O'Neill", "Smith", "Kowalski", "Virtanen")
STREETS: Final = ("Oak Street", "Elm Avenue", "Mill Road", "Station Lane", "Harbour Drive", "Church St")
TOWNS: Final = ("Springfield", "Utrecht", "Leeds", "Graz", "Lyon", "Gdynia", "Turku", "Parma")


def digits(draw: Random, count: int, first: str = "123456789") -> str:
    """Return a number of so many digits."""
    return draw.choice(first) + "".join(draw.choice("0123456789") for _ in range(count - 1))


def until(fits: Callable[[str], bool], make: Maker, draw: Random) -> str:
    """Return the first made text that passes its check; check digits pass one time in ten to one in a hundred."""
    while not fits(text := make(draw)):
        pass
    return text


def day(draw: Random, first: date = date(1935, 1, 1), days: int = 30_000) -> date:
    """Return a day."""
    return first + timedelta(days=draw.randrange(days))


def email(draw: Random) -> str:
    """An address under a name that is nobody's."""
    name = draw.choice(FIRST).lower().encode("ascii", "ignore").decode()
    return f"{name}.{draw.randrange(10_000)}@{draw.choice(('mail', 'post', 'work'))}.example"


def phone(draw: Random) -> str:
    """A telephone number, as people write them."""
    area, line = digits(draw, 3, "23456789"), digits(draw, 4)
    forms = (
        f"+31 20 {digits(draw, 7)}",
        f"({area}) {digits(draw, 3)}-{line}",
        f"{area}-{digits(draw, 3)}-{line}",
        f"+49 {digits(draw, 3)} {digits(draw, 6)}",
        f"{area}.{digits(draw, 3)}.{line} x{digits(draw, 3)}",
    )
    return draw.choice(forms)


def ssn(draw: Random) -> str:
    """A social security number of the United States."""
    return f"{draw.randrange(1, 650):03d}-{draw.randrange(1, 99):02d}-{draw.randrange(1, 9999):04d}"


def card(draw: Random) -> str:
    """A card number with its check digit, with or without blanks."""
    plain = until(checksums.is_card, lambda d: digits(d, 16, "45"), draw)
    return draw.choice((plain, " ".join(plain[i : i + 4] for i in range(0, 16, 4))))


def iban(draw: Random) -> str:
    """A bank account of the Netherlands."""
    account = f"{draw.choice(('ABNA', 'INGB', 'RABO'))}{digits(draw, 10)}"
    number = int("".join(str(int(sign, 36)) for sign in f"{account}NL00"))
    return f"NL{98 - number % 97:02d}{account}"


def name(draw: Random) -> str:
    """A name."""
    return f"{draw.choice(FIRST)} {draw.choice(LAST)}"


def address(draw: Random) -> str:
    """A street address."""
    german = f"{draw.choice(('Haupt', 'Berg', 'Garten'))}straße {draw.randrange(1, 200)}"
    return draw.choice((f"{draw.randrange(1, 999)} {draw.choice(STREETS)}", german))


def ip(draw: Random) -> str:
    """An address of the Internet protocol, version 4 or 6."""
    six = ":".join(f"{draw.randrange(1, 65_536):x}" for _ in range(8))
    return draw.choice((".".join(str(draw.randrange(1, 255)) for _ in range(4)), six))


def mac(draw: Random) -> str:
    """The address of a network card."""
    return ":".join(f"{draw.randrange(256):02x}" for _ in range(6))


def imei(draw: Random) -> str:
    """The number of a mobile device."""
    return until(checksums.is_imei, lambda d: digits(d, 15), draw)


def vin(draw: Random) -> str:
    """The number of a vehicle."""
    signs = "ABCDEFGHJKLMNPRSTUVWXYZ0123456789"
    return until(checksums.is_vin, lambda d: "".join(d.choice(signs) for _ in range(17)), draw)


def url(draw: Random) -> str:
    """A page of somebody's."""
    return f"https://people.example/~{draw.choice(FIRST).lower()}{draw.randrange(10_000)}"


def birthday(draw: Random) -> str:
    """A day of birth."""
    return day(draw).isoformat()


def postcode(draw: Random) -> str:
    """A postal code of the Netherlands or the United Kingdom."""
    return draw.choice(
        (f"{digits(draw, 4)} {draw.choice('ABCDE')}{draw.choice('XYZ')}", f"LS{draw.randrange(1, 29)} 4QT")
    )


def place(draw: Random) -> str:
    """A town."""
    return draw.choice(TOWNS)


def coordinates(draw: Random) -> str:
    """A point on the earth."""
    return f"{draw.uniform(40, 60):.5f}, {draw.uniform(-5, 20):.5f}"


def _born(draw: Random, form: str) -> str:
    return day(draw, date(1940, 1, 1), 21_000).strftime(form)


NATIONAL: Final[dict[str, Maker]] = {
    "Belgium": lambda d: until(checksums.is_belgian, lambda x: f"{_born(x, '%y%m%d')}{digits(x, 3)}{digits(x, 2)}", d),
    "Finland": lambda d: until(checksums.is_finnish, lambda x: f"{_born(x, '%d%m%y')}-{digits(x, 3)}{_sign(x)}", d),
    "France": lambda d: until(checksums.is_french, lambda x: f"{x.choice('12')}{digits(x, 12)}{digits(x, 2)}", d),
    "Germany": lambda d: until(checksums.is_german, lambda x: digits(x, 11), d),
    "Italy": lambda d: until(
        checksums.is_italian,
        lambda x: (
            f"{_letters(x, 6)}{digits(x, 2)}{x.choice('ABCDEHLMPRST')}{digits(x, 2)}"
            f"{_letters(x, 1)}{digits(x, 3)}{_letters(x, 1)}"
        ),
        d,
    ),
    "the Netherlands": lambda d: until(checksums.is_dutch, lambda x: digits(x, 9), d),
    "Poland": lambda d: until(checksums.is_polish, lambda x: f"{_born(x, '%y%m%d')}{digits(x, 5)}", d),
    "Spain": lambda d: until(checksums.is_spanish, lambda x: f"{digits(x, 8)}{_letters(x, 1)}", d),
    "Sweden": lambda d: until(checksums.is_swedish, lambda x: f"{_born(x, '%y%m%d')}-{digits(x, 4)}", d),
    "the United Kingdom": lambda d: until(
        checksums.is_british, lambda x: f"{digits(x, 3)} {digits(x, 3)} {digits(x, 4)}", d
    ),
}
"""National numbers by country."""


def _letters(draw: Random, count: int) -> str:
    return "".join(draw.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(count))


def _sign(draw: Random) -> str:
    return draw.choice("0123456789ABCDEFHJKLMNPRSTUVWXY")
