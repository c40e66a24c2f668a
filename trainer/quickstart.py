"""`python -m trainer quickstart`: the four tiny networks, trained once, and what they show.

Only a training imports torch and Ray: with everything trained, the table should appear at once.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from shared import versions
from shared.versions import Version

NETWORKS = {
    "tiny_resnet18": "resnet18-w0.25-photos",
    "tiny_drn_a_18": "drn_a_18-w0.25-photos",
    "tiny_drn_b_26": "drn_b_26-w0.25-photos",
    "tiny_drn_c_26": "drn_c_26-w0.25-photos",
}
"""Recipe -> the name under which it is registered."""


def run() -> None:
    """Train those that the registry lacks and print the table of all four."""
    versions.check_reachable()
    known = {version.name: version for version in reversed(versions.versions())}
    missing = [recipe for recipe, name in NETWORKS.items() if name not in known]
    if missing:
        known |= {version.name: version for version in _train(missing)}
    print(f"{'network':<10} {'validation error':>17} {'gridding (GHD)':>16}   version")
    for name in NETWORKS.values():
        version = known[name]
        ghd = f"{float(version.tags['ghd']):.2f}" if "ghd" in version.tags else "not dilated"
        error = "not measured" if version.top1_error_pct is None else f"{version.top1_error_pct:.1f} %"
        print(f"{version.architecture:<10} {error:>17} {ghd:>16}   {version.uri}")


def _train(names: list[str]) -> list[Version]:
    started = time.perf_counter()
    with _peak_memory() as peak_bytes:
        from trainer import recipes, training

        trained = training.train([recipes.load(name) for name in names])
    seconds = time.perf_counter() - started
    print(f"{len(names)} networks trained in {seconds:.0f} s; peak memory {peak_bytes[0] / 1e9:.1f} GB")
    return trained


@contextmanager
def _peak_memory() -> Iterator[list[int]]:
    """The largest sum, seen once a second, of the memory of this process and all below it (shared pages split up)."""
    import psutil

    peak = [0]
    stop = threading.Event()

    def watch() -> None:
        me = psutil.Process()
        while not stop.wait(1):
            total = 0
            for process in (me, *me.children(recursive=True)):
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:  # it has just ended
                    continue
            peak[0] = max(peak[0], total)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()
