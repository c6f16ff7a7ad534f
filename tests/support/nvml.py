"""A stand-in for the driver's library of an NVIDIA GPU."""

import time


class FakeNvml:
    """A GPU whose energy counter changes ten times a second, as that of an H100.

    It draws `idle_watts`, and `busy_watts` in a span of seconds after it was created.
    """

    NVMLError = RuntimeError

    def __init__(self, idle_watts: float, busy_watts: float, busy: tuple[float, float]) -> None:
        self.idle, self.extra, self.busy = idle_watts, busy_watts - idle_watts, busy
        self.started = time.perf_counter()

    def now(self) -> float:
        return time.perf_counter() - self.started

    def nvmlDeviceGetName(self, handle: object) -> str:
        return "V100"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object) -> int:
        tick = self.now() // 0.1 * 0.1
        start, end = self.busy
        busy = max(0.0, min(tick, end) - start)
        return round(1000 * (self.idle * tick + self.extra * busy))


def wait_until(nvml: FakeNvml, moment: float) -> None:
    while nvml.now() < moment:
        time.sleep(0.0005)
