"""Runs that are given up: they end soon, and whatever comes later is as if they had not been."""

import ctypes
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.test_native import DEEP, deep, images, same

from shoestring.core.errors import BadInput, GivenUp
from shoestring.engine import native, reference

pytestmark = pytest.mark.skipif(not native.available(), reason=native.why_absent() or "present")

LONG = deep(blocks=200, channels=32, size=32)  # hundreds of steps, of which each is short
X = images(1, LONG)


def quickest(run: Callable[[], object]) -> float:
    """Seconds."""
    found = []
    for _ in range(5):
        begun = time.perf_counter()
        run()
        found.append(time.perf_counter() - begun)
    return min(found)


if native.available():
    NETWORKS = [native.Network(LONG, threads) for threads in (1, 2)]
    EXPECTED, SECONDS = NETWORKS[0](X), quickest(lambda: NETWORKS[0](X))


def given_up_after(seconds: float, network: native.Network, x: np.ndarray) -> tuple[list[np.ndarray] | None, float]:
    """What a run gave that was given up so many seconds after its start; and for how long it went on after that."""
    asked, ended = [0.0], 0.0

    def ask() -> None:
        asked[0] = time.perf_counter()
        network.give_up()

    timer = threading.Timer(seconds, ask)
    timer.start()
    found: list[np.ndarray] | None = None
    try:
        found = network(x)
    except GivenUp:
        ended = time.perf_counter()
    timer.join()
    return found, ended - asked[0]


@pytest.mark.parametrize("threads", [1, 2])
def test_what_was_asked_before_it_began_runs_no_step(threads: int) -> None:
    """And writes no output."""
    network, stop, message = native.Network(DEEP, threads), np.ones(1, np.int32), native._message()
    x, outputs = images(1), [np.full((1, 10), 7, np.float32), np.full((1, 24, 17, 17), 7, np.uint8)]
    arrays = native._arrays([x]), 1, native._arrays(outputs), 2

    def run() -> int:
        pointer, limit = network._live().pointer, native._Limit(stop.ctypes.data, 0, 0)
        end = ctypes.addressof(limit), message, len(message)
        return int(network._library.shoestring_run(pointer, *arrays, 1, *end))

    assert run() == 2
    assert all((output == 7).all() for output in outputs)
    assert message.value == b""
    for not_zero in (-1, 256, 1 << 24):  # all of the word counts
        stop[0] = not_zero
        assert run() == 2
    stop[0] = 0
    assert run() == 0
    assert same(outputs, reference.run(DEEP, x))


@settings(deadline=None, max_examples=40)
@given(st.floats(0, 1.3), st.integers(0, 1))
def test_at_any_moment(share: float, which: int) -> None:
    """A run gives all or nothing, and the next one all. `share`: of a run's length."""
    found, _ = given_up_after(share * SECONDS, NETWORKS[which], X)
    assert found is None or same(found, EXPECTED)
    assert same(NETWORKS[which](X), EXPECTED)


@pytest.mark.parametrize("threads", [1, 2])
def test_it_ends_soon(threads: int) -> None:
    """The best of several: a busy machine makes anybody late. A step is a four hundredth of a run."""
    network, x = native.Network(LONG, threads), images(8, LONG)
    seconds = quickest(lambda: network(x))
    went_on = []
    for _ in range(8):
        found, after = given_up_after(seconds / 10, network, x)
        went_on += [] if found else [after]
    assert min(went_on) < seconds / 10


@pytest.mark.parametrize("threads", [1, 2])
def test_time_that_is_up_ends_it_before_the_first_step(threads: int) -> None:
    """And writes no output. No time at all, time gone before, and less than is to be left."""
    network, x = native.Network(DEEP, threads), images(1)
    outputs, message = [np.full((1, 10), 7, np.float32), np.full((1, 24, 17, 17), 7, np.uint8)], native._message()
    arrays = native._arrays([x]), 1, native._arrays(outputs), 2
    for nanoseconds, gap in ((1, 0), (10**9, 10**9), (10**9, 2**63 - 1), (2**63 - 1, 2**63 - 1)):
        limit = native._Limit(None, nanoseconds, gap)
        end = ctypes.addressof(limit), message, len(message)
        assert network._library.shoestring_run(network._live().pointer, *arrays, 1, *end) == 2
        assert all((output == 7).all() for output in outputs)
    for within, gap in ((0.0, 0.0), (-1.0, 0.0), (-math.inf, 0.0), (1.0, 1.0), (1.0, math.inf)):
        with pytest.raises(GivenUp, match=r"^engine: the run was given up$"):
            network(x, within=within, gap=gap)


def test_time_enough_changes_nothing() -> None:
    x = images(2)
    expected = reference.run(DEEP, x)
    network = native.Network(DEEP)
    for within, gap in ((math.inf, math.inf), (math.inf, 0.0), (1e12, 1.0), (3600.0, 0.0), (3600.0, -1.0)):
        assert same(network(x, within=within, gap=gap), expected)
    limit, outputs = native._Limit(None, 2**63 - 1, -(2**63)), [np.empty_like(y) for y in expected]
    arrays, message = (native._arrays([x]), 1, native._arrays(outputs), 2), native._message()
    end = ctypes.addressof(limit), message, len(message)
    assert network._library.shoestring_run(network._live().pointer, *arrays, 2, *end) == 0
    assert same(outputs, expected)


def test_no_number_is_no_time() -> None:
    for limit in ({"within": math.nan}, {"within": 1.0, "gap": math.nan}):
        with pytest.raises(BadInput, match=r"^engine: nan is no time; give seconds, or leave it out$"):
            NETWORKS[0](X, **limit)


@settings(deadline=None, max_examples=40)
@given(st.floats(0, 1.3), st.integers(0, 1))
def test_at_any_moment_by_itself(share: float, which: int) -> None:
    """All or nothing, and the next run all. `share`: of a run's length."""
    network = NETWORKS[which]
    with suppress(GivenUp):
        assert same(network(X, within=share * SECONDS), EXPECTED)
    assert same(network(X), EXPECTED)


@pytest.mark.parametrize("threads", [1, 2])
def test_it_ends_by_itself_in_time(threads: int) -> None:
    """Neither long before nor after; with a gap, as much earlier. The best of several: a busy machine makes a run slow,
    and its own gaps end it sooner."""
    network, x = native.Network(LONG, threads), images(8, LONG)
    seconds = quickest(lambda: network(x))
    for within, gap in ((0.5, 0.0), (0.8, 0.6)):
        off = []
        while len(off) < 40 and min(off, default=1.0) > 0.1:
            begun = time.perf_counter()
            with pytest.raises(GivenUp):
                network(x, within=within * seconds, gap=gap * seconds)
            off.append(abs((time.perf_counter() - begun) / seconds - (within - gap)))
        assert off[-1] < 0.1


def test_a_thread_without_a_core_is_reckoned_with() -> None:
    """Long steps are like it: who looks every 100 ms can end at the last look only that leaves 100 ms. The reference: a
    run of many images, whose steps are as long, profiled."""
    x = images(64, LONG)
    network = NETWORKS[0]
    network(x)
    steps = network.profile(x, runs=1)[0] / 1e9
    begun = time.perf_counter()
    with pytest.raises(GivenUp):
        network(x, within=float(steps.sum() / 2))
    assert time.perf_counter() - begun < steps.sum() / 2 + steps.max()


def test_who_waits_for_another_run_is_given_up_when_it_gets_its_turn() -> None:
    """The wait counts as time, and not as one without a core."""
    base = native.Network(LONG)
    like = native.Network(LONG, base=base)
    x = images(24, LONG)
    long = quickest(lambda: base(x))
    with ThreadPoolExecutor(2) as pool:
        for within, answers in ((long / 2, False), (10 * long + 5, True)):
            running = pool.submit(base, x)
            time.sleep(SECONDS)
            waiting = pool.submit(like, X, within=within)
            running.result()
            assert (waiting.exception() is None) == answers


def test_in_vain_when_nothing_runs() -> None:
    network = NETWORKS[1]
    for _ in range(3):
        network.give_up()
        network.give_up()
        assert same(network(X), EXPECTED)
    assert network.profile(X, runs=2).all()


def test_one_that_waits_for_another_is_given_up_alone() -> None:
    """Networks that share run in turns. What waits ends when it gets its turn, the other one goes on."""
    base = native.Network(LONG, 2)
    like = native.Network(LONG, base=base)
    x = images(24, LONG)
    expected = base(x)
    with ThreadPoolExecutor(2) as pool:
        running: Future[list[np.ndarray]] = pool.submit(base, x)
        time.sleep(SECONDS)
        waiting = pool.submit(like, X)
        time.sleep(SECONDS)
        assert not running.done()  # 24 times as long as what was slept twice
        like.give_up()
        assert same(running.result(), expected)
        assert isinstance(waiting.exception(), GivenUp)
    assert same(like(X), EXPECTED)


def test_all_callers_of_one_network() -> None:
    """Those who have called: whoever calls later is served."""
    network, x = native.Network(LONG), images(8, LONG)
    with ThreadPoolExecutor(3) as pool:
        early = [pool.submit(network, x) for _ in range(3)]
        time.sleep(SECONDS)
        network.give_up()
        later = pool.submit(network, X)
        assert all(isinstance(run.exception(), GivenUp) for run in early)
        assert same(later.result(), EXPECTED)


def test_while_runs_and_requests_come_from_everywhere() -> None:
    network = native.Network(DEEP, 2)
    x = images(1)
    expected, over = reference.run(DEEP, x), threading.Event()

    def ask() -> None:
        while not over.wait(2e-4):
            network.give_up()

    def call(_: int) -> bool | None:
        try:
            return same(network(x), expected)
        except GivenUp:
            return None

    with ThreadPoolExecutor(4) as pool:
        asking = pool.submit(ask)
        found = list(pool.map(call, range(600)))
        over.set()
        asking.result()
    assert False not in found
    assert same(network(x), expected)


def test_a_word_that_is_never_set_changes_nothing() -> None:
    """What `give_up` writes to is read as 32 bits, at an address that suits them."""
    network = native.Network(DEEP)
    assert ctypes.sizeof(network._stop) == 4
    assert ctypes.addressof(network._stop) % 4 == 0
    assert same(network(images(2)), reference.run(DEEP, images(2)))
