"""Time: what is due when, and when anything last changed.

It runs no thread and calls nobody by itself: whoever looks at the world first applies what is due. Whoever waits for a
change is woken by the next one, be it made by a call or by time.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable

Effect = Callable[[], None]


class Timeline:
    """Everything below happens under `lock`, which is the lock of the whole world."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.lock = threading.RLock()
        self.revision = 1
        self._changed = threading.Condition(self.lock)
        self._clock, self._began = clock, clock()
        self._due: list[tuple[int, int, Effect]] = []
        self._serial = itertools.count()

    def now(self) -> int:
        """Milliseconds since the start."""
        return int((self._clock() - self._began) * 1_000)

    def schedule(self, after: int, effect: Effect) -> None:
        """`effect` in so many milliseconds; what takes no time takes effect at once."""
        if after == 0:
            effect()
            return
        heapq.heappush(self._due, (self.now() + after, next(self._serial), effect))
        # Who waits may have to wake up earlier than it thought.
        self._changed.notify_all()

    def advance(self) -> None:
        """Applies what is due, in its order."""
        now = self.now()
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()
            self.touch()

    def touch(self) -> None:
        """Something changed."""
        self.revision += 1
        self._changed.notify_all()

    def wait(self, after: int, at_most: float) -> int:
        """Waits until the revision is another than `after`, at most so many seconds. Gives the revision. Holds the lock
        afterwards as before: what is read next is of that revision."""
        end = self._clock() + at_most
        self.advance()
        while self.revision == after and (left := end - self._clock()) > 0:
            if self._due:
                left = min(left, max(0.0, (self._due[0][0] - self.now()) / 1_000))
            # A millisecond more, or a moment that is rounded down is waited for twice.
            self._changed.wait(left + 0.001)
            self.advance()
        return self.revision
