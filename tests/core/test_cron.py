"""A cron line is checked when the brief is read, and what is taken here Prefect takes too."""

import asyncio
from datetime import UTC, datetime

import pytest

from components.core.brief import parse_brief
from components.core.cron import WORDS, check_cron, next_time
from components.core.errors import BriefError

GOOD = (
    "0 3 * * 1", "*/5 * * * *", "0 0 L * *", "0 0 29 2 *", "0 3 * * MON-FRI", "0 3 1,15 jan-jun/2 sun", "5/15 * * * *",
    "0 0 * * 7", "0 0 * * 1#2", "0  3 * *   1", "1-5/2,7 * * * *", *WORDS,
)  # fmt: skip
BAD = (
    "", "x", "0 3 * *", "0 3 * * 1 2", "61 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *", "* * * * 8", "@never",
    "@reboot", "0 0 30 2 *", "0 0 31 4,6 *", "a b c d e", "*/0 * * * *", "5-1 * * * *", "R * * * *", "H H * * *", "0 0 LW * *",
    "0 0 * * 5L", "0 0 * * FOO", "-1 * * * *", "1.5 * * * *", "0 3 * * 1,", "1//2 * * * *", "０ 3 * * 1", "9" * 9000 + " * * * *",
)  # fmt: skip


@pytest.mark.parametrize("line", GOOD)
def test_a_good_line_is_one_for_prefect_too(line: str) -> None:
    from prefect.client.schemas.schedules import CronSchedule

    check_cron(line)
    CronSchedule(cron=line)


@pytest.mark.parametrize("line", BAD, ids=lambda line: line[:12])
def test_a_bad_line_is_refused_when_the_brief_is_read(line: str) -> None:
    with pytest.raises(BriefError) as caught:
        parse_brief(f"name: x\nmodality: image\ndata: {{path: d}}\nschedule: {{cron: '{line}'}}\n")
    assert str(caught.value).startswith("brief: schedule.cron: ")
    assert "allowed: five fields" in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.slow
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("line", GOOD)
def test_it_comes_next_when_prefect_starts_it(line: str, zone: str) -> None:
    from prefect.server.schemas.schedules import CronSchedule

    now = datetime(2026, 7, 3, 11, 7, 30, tzinfo=UTC)
    (starts,) = asyncio.run(CronSchedule(cron=line, timezone=zone).get_dates(n=1, start=now))
    assert next_time(line, zone, now) == starts
