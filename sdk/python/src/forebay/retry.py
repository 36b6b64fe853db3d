"""When to ask again, and how fast to ask at all. Pure: time and chance are handed in."""

from __future__ import annotations

import email.utils
import random
from dataclasses import dataclass

# What says that the same request may be answered a little later. 500 does not: asking again mends nothing.
PASSING = frozenset({429, 502, 503, 504})
# A disk is full and nothing was done. Somebody makes room, or not: it passes where the answer says when to come again.
FULL = 507


def may_pass(status: int, told: float | None) -> bool:
    """Whether the same request may be answered later; `told` is what `Retry-After` says."""
    return status in PASSING or (status == FULL and told is not None)


@dataclass(frozen=True)
class Retry:
    """How often and how patiently a request is sent again. Only what changes nothing, or has an idempotency key, is."""

    attempts: int = 4
    # Seconds before the second attempt at most; twice as many before each further one ("full jitter").
    first: float = 0.5
    # No wait is longer, whatever the gateway asks for: beyond it the error is told instead.
    longest: float = 30.0

    def pause(self, attempt: int, told: float | None, chance: float | None = None) -> float | None:
        """How long to wait after attempt number `attempt` (from 1); None where there is to be no other one."""
        if attempt >= self.attempts:
            return None
        drawn = random.random() if chance is None else chance
        backed_off = min(self.longest, self.first * 2 ** (attempt - 1)) * drawn
        if told is None:
            return backed_off
        return None if told > self.longest else max(told, backed_off)


def retry_after(value: str | None, now: float) -> float | None:
    """`Retry-After` in seconds: a number of them, or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except ValueError:
        return None


class Pace:
    """A token bucket: so many requests a minute, and a tenth of them at once."""

    def __init__(self, per_minute: float | None) -> None:
        if per_minute is not None and per_minute <= 0:
            raise ValueError("requests_per_minute is above 0")
        self._rate = None if per_minute is None else per_minute / 60
        self._room = self._most = 1.0 if per_minute is None else max(1.0, per_minute / 10)
        self._seen: float | None = None

    def wait(self, now: float) -> float:
        """Takes a place, and says how long to wait for it."""
        if self._rate is None:
            return 0.0
        past = 0.0 if self._seen is None else max(0.0, now - self._seen)
        self._seen = now
        self._room = min(self._most, self._room + past * self._rate) - 1
        return max(0.0, -self._room / self._rate)
