"""Several instances of an engine that holds the interpreter's lock: one process per instance."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

import numpy as np

from harness.engines.base import Candidates, Engine, EngineConfig
from harness.models.answers import Scores

CHUNKS_PER_INSTANCE = 8
"""Number of chunks that an instance's share of the examples is split into, so that all instances
finish together; a chunk is never smaller than a batch."""


class Processes:
    """The instances of an engine, each in a process with its share of the threads.

    Args:
        config: what to load, with more than one instance.
        load: loads the engine of one instance; a function at the top level of its module.
    """

    def __init__(self, config: EngineConfig, load: Callable[[EngineConfig], Engine]) -> None:
        self.count, self.batch = config.instances, config.serve.batch
        threads = config.threads_per_instance
        single = replace(config, threads=threads, serve=replace(config.serve, instances=1))
        context = multiprocessing.get_context("spawn")
        rayon_threads = os.environ.get("RAYON_NUM_THREADS")
        os.environ["RAYON_NUM_THREADS"] = str(threads)  # read when a child process starts
        self.idle: SimpleQueue[Connection] = SimpleQueue()
        connections = []
        for _ in range(self.count):
            connection, child = context.Pipe()
            context.Process(target=_serve, args=(single, load, child), daemon=True).start()
            child.close()
            connections.append(connection)
        if rayon_threads is None:
            del os.environ["RAYON_NUM_THREADS"]
        else:
            os.environ["RAYON_NUM_THREADS"] = rayon_threads
        for connection in connections:
            _receive(connection)
            self.idle.put(connection)
        self.pool = ThreadPoolExecutor(self.count)

    def scores(self, examples: Sequence[Candidates]) -> Scores:
        """Return float32 [candidates, labels]."""
        size = max(self.batch, -(-len(examples) // (self.count * CHUNKS_PER_INSTANCE)))
        chunks = [examples[start : start + size] for start in range(0, len(examples), size)]
        return np.concatenate(list(self.pool.map(self._score_chunk, chunks)))

    def _score_chunk(self, chunk: Sequence[Candidates]) -> Scores:
        connection = self.idle.get()
        connection.send(chunk)
        scores: Scores = _receive(connection)
        self.idle.put(connection)
        return scores


def _receive(connection: Connection) -> Any:
    error, value = connection.recv()
    if error:
        raise RuntimeError(error)
    return value


def _serve(
    config: EngineConfig, load: Callable[[EngineConfig], Engine], connection: Connection
) -> None:
    """Answer in a child process, until the connection is closed; replies are (error, value)."""
    try:
        engine = load(config)
        connection.send(("", None))
        while True:
            connection.send(("", engine.scores(connection.recv())))
    except EOFError:
        return
    except Exception as error:
        connection.send((f"{type(error).__name__}: {error}", None))
