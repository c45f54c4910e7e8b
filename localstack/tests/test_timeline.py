"""Time and revisions."""

import threading

from worlds import Clock

from berth_ec2.timeline import Timeline


def test_effects_come_in_the_order_of_their_moments_and_raise_the_revision() -> None:
    clock, seen = Clock(), list[str]()
    timeline = Timeline(clock)
    with timeline.lock:
        timeline.schedule(20, lambda: seen.append("later"))
        timeline.schedule(10, lambda: seen.append("sooner"))
        timeline.schedule(10, lambda: seen.append("as soon, second"))
        clock.seconds = 0.015
        timeline.advance()
        assert (seen, timeline.revision) == (["sooner", "as soon, second"], 3)
        clock.seconds = 1
        timeline.advance()
        assert (seen[-1], timeline.revision) == ("later", 4)


def test_who_waits_sees_what_becomes_due_without_anybody_calling() -> None:
    timeline = Timeline()
    with timeline.lock:
        timeline.schedule(20, lambda: None)
        assert timeline.wait(after=1, at_most=10) == 2
        assert timeline.now() < 9_000


def test_who_waits_is_woken_by_a_call() -> None:
    timeline, waiting = Timeline(), threading.Event()

    def call() -> None:
        waiting.wait(10)
        with timeline.lock:
            timeline.touch()

    caller = threading.Thread(target=call)
    caller.start()
    with timeline.lock:
        # Whoever calls gets the lock only while this one waits.
        waiting.set()
        assert timeline.wait(after=1, at_most=10) == 2
        assert timeline.now() < 9_000
    caller.join()


def test_who_waits_for_nothing_gives_up() -> None:
    timeline = Timeline()
    with timeline.lock:
        assert timeline.wait(after=1, at_most=0.01) == 1
        assert timeline.wait(after=7, at_most=10) == 1
