"""A cron line: `0 3 * * 1` is 3:00 on Mondays. Five fields as Prefect takes them, or a word such as `@daily`."""

from datetime import UTC, datetime
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from components.core.record import shortened

WORDS = {
    "@hourly": "0 * * * *",
    **dict.fromkeys(("@daily", "@midnight"), "0 0 * * *"),
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    **dict.fromkeys(("@yearly", "@annually"), "0 0 1 1 *"),
}
ALLOWED = "five fields (minute 0-59, hour 0-23, day 1-31, month 1-12, weekday 0-7) such as '0 3 * * 1', or @daily"

LENGTH_MAX = 200  # characters


def check_cron(line: str) -> None:
    """Raises ValueError with what is wrong with a cron line, and what is allowed.

    >>> check_cron("0 3 * * 1")
    >>> check_cron("@daily")
    """
    from cronsim import CronSim, CronSimError

    if line.lower() in WORDS:
        return
    fields, given = line.split(), shortened(line, most=60)
    if len(fields) != 5:
        raise ValueError(f"{given} has {len(fields)} fields; allowed: {ALLOWED}")
    if (
        len(line) > LENGTH_MAX or not line.isascii() or "W" in fields[2].upper() or "L" in fields[4].upper()
    ):  # which Prefect takes in other ways, or not
        raise ValueError(f"{given} given; allowed: {ALLOWED}")
    try:
        next(CronSim(line, datetime(2024, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise ValueError(f"{given}: {str(error)[:1].lower()}{str(error)[1:]}; allowed: {ALLOWED}") from error
    except StopIteration:
        raise ValueError(f"{given} never comes; allowed: {ALLOWED}") from None


def check_timezone(name: str) -> None:
    """Raises ValueError for what is no time zone.

    >>> check_timezone("Europe/Berlin")
    """
    if name != "UTC" and name not in _zones():
        raise ValueError(f"{shortened(name, most=60)} given; allowed: a name of the IANA database, as UTC or Europe/Berlin")


@cache
def _zones() -> set[str]:
    """Read once: it looks into every file of the database."""
    return available_timezones()


def next_time(line: str, timezone: str, after: datetime) -> datetime:
    """When a cron line comes next, in its time zone. `after`: with a time zone.

    >>> next_time("0 3 * * 1", "Europe/Berlin", datetime(2026, 11, 27, tzinfo=UTC)).isoformat()
    '2026-11-30T03:00:00+01:00'
    """
    from cronsim import CronSim

    return next(CronSim(WORDS.get(line.lower(), line), after.astimezone(ZoneInfo(timezone))))
