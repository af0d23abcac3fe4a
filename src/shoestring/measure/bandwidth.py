"""How fast this machine moves bytes, with NumPy."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

RANGE = (2**20, 2**28)  # bytes: less measures calls instead of memory, more would only take longer
_ONE_TRY = 2**26  # bytes moved between two readings of the clock, at least
_TRIES = 10


def bandwidth(size: int, threads: int = 1) -> float:
    """Bytes a second, in 1e9, that `threads` threads read and write together when they copy `size` / 2 bytes (within
    RANGE) again and again: what a network reaches whose run moves `size` bytes, from the cache that they fit into or
    from memory. The best of a few tries; a tenth of a second."""
    half = min(max(size, RANGE[0]), RANGE[1]) // 2 // threads
    blocks = [(np.ones(half, np.uint8), np.zeros(half, np.uint8)) for _ in range(threads)]
    repeats = max(1, _ONE_TRY // (2 * half * threads))

    def copy(index: int) -> None:
        for _ in range(repeats):
            np.copyto(blocks[index][1], blocks[index][0])

    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_TRIES):
            start = time.perf_counter()
            list(pool.map(copy, range(threads)))
            best = min(best, time.perf_counter() - start)
    return 2 * half * threads * repeats / best / 1e9
