"""Several instances of an engine that holds the interpreter's lock: a process each."""

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

import numpy as np

from harness.engines import base
from harness.engines.base import Candidates, EngineConfig, Scores

SHARES = 8
"""Into how many pieces an instance's share of the examples is cut, so that all end together; none
is smaller than a batch."""


class Processes:
    """As many engines as `what` asks for, each in a process with its share of the threads."""

    def __init__(self, what: EngineConfig) -> None:
        self.count, self.batch = what.serve.count(what.threads), what.serve.batch
        threads = what.threads_each
        one = replace(what, threads=threads, serve=replace(what.serve, instances=1))
        context = multiprocessing.get_context("spawn")
        before = os.environ.get("RAYON_NUM_THREADS")
        os.environ["RAYON_NUM_THREADS"] = str(threads)  # read when a child begins
        self.free: SimpleQueue[Connection] = SimpleQueue()
        ends = []
        for _ in range(self.count):
            end, other = context.Pipe()
            context.Process(target=_answer, args=(one, other), daemon=True).start()
            other.close()
            ends.append(end)
        if before is None:
            del os.environ["RAYON_NUM_THREADS"]
        else:
            os.environ["RAYON_NUM_THREADS"] = before
        for end in ends:
            _unpacked(end.recv())
            self.free.put(end)
        self.pool = ThreadPoolExecutor(self.count)

    def scores(self, examples: Sequence[Candidates]) -> Scores:
        """float32 [candidates, labels]."""
        size = max(self.batch, -(-len(examples) // (self.count * SHARES)))
        parts = [examples[start : start + size] for start in range(0, len(examples), size)]
        return np.concatenate(list(self.pool.map(self._ask, parts)))

    def _ask(self, part: Sequence[Candidates]) -> Scores:
        end = self.free.get()
        end.send(part)
        found: Scores = _unpacked(end.recv())
        self.free.put(end)
        return found


def _unpacked(message: tuple[str, Any]) -> Any:
    fault, value = message
    if fault:
        raise RuntimeError(fault)
    return value


def _answer(what: EngineConfig, end: Connection) -> None:
    try:
        loaded = base.load_engine(what)
        end.send(("", None))
        while True:
            end.send(("", loaded.scores(end.recv())))
    except EOFError:
        return
    except Exception as error:
        end.send((f"{type(error).__name__}: {error}", None))
