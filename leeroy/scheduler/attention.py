"""
What of the time that went by this process was really there for.

Whoever was told has time to stop a deploy while the server runs and its
database answers, and at no other.  A stopped process (SIGSTOP, a debugger, a
frozen cgroup or virtual machine) notices nothing of its stop but that the
clock has leapt; so while something is watched the loop looks at the clock a
few times a second, and a longer leap is not counted.
"""

from __future__ import annotations

import time

from leeroy.clock import Clock

TICK_S = 0.25
"""While something is watched, the loop waits no longer than that between two looks."""
SLACK_S = 0.25
"""A wait may take so much longer than meant; one that takes longer still counts for nothing."""
WORK_S = 0.5
"""Of the work between two looks no more is counted: while it is slow, a stop is slow as well."""
AWAY_S = 5.0
"""So long without a look, and whatever was announced is announced again."""
_SLEPT_S = 1.0


class Attention:
    """
    A clock that stands still while this process does; seconds that only ever grow.

    What is measured by it comes out too short, never too long: by less than
    `TICK_S + SLACK_S` a stop may be hidden in a wait, and no more than
    `WORK_S` of one in work.  `away_s` is for how long nobody watched before
    the last interruption was over.  For one thread.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counted_s = 0.0
        self.away_s = 0.0
        self.begin(0.0)

    def begin(self, away_s: float) -> None:
        """From now on; before, nobody has watched for *away_s*."""
        self._at = self._clock.monotonic()
        self._late_s = 0.0
        self._asleep_s = asleep()
        self._seen = self._at + self._asleep_s - away_s
        self.away_s = away_s

    def waited(self, meant_s: float) -> float:
        """A wait that should have lasted *meant_s* at the most is over; the time counted by now."""
        gap = self._gap()
        late = gap - meant_s
        if late <= SLACK_S:
            self._counted_s += gap
        self._late_s = max(self._late_s, late)
        return self._counted_s

    def worked(self) -> float:
        """Some work is done; the time counted by now."""
        gap = self._gap()
        # Something is always counted: where every answer is slow, a period lasts longer, and ends.
        self._counted_s += min(gap, WORK_S)
        self._late_s = max(self._late_s, gap)
        return self._counted_s

    def _gap(self) -> float:
        before, self._at = self._at, self._clock.monotonic()
        return self._at - before

    def interrupted(self) -> bool:
        """Whether the process was stopped, or the machine slept, since `resumed` or `begin`."""
        return self._late_s > AWAY_S or asleep() - self._asleep_s > _SLEPT_S

    def resumed(self) -> None:
        """The interruption is noted, and whatever waits is looked at."""
        self._late_s = 0.0
        self._asleep_s = asleep()
        self.away_s = self._at + self._asleep_s - self._seen

    def complete(self) -> None:
        """All that was due has been looked at, and the database answered."""
        self._seen = self._at + asleep()


def asleep() -> float:
    """For how long the machine has slept since it was booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
