"""The process in which an engine runs while it is measured. It speaks the worker protocol
(docs/methodology/protocol.md) over stdin and stdout.

It imports only what its engine needs, and it never sees a label.
"""

import gc
import json
import os
import select
import sys
import threading
from collections import deque
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from harness.engines.base import (
    AnsweringEngine,
    Engine,
    EngineConfig,
    ReportingEngine,
    ServeConfig,
)
from harness.engines.registry import load_engine
from harness.models.answers import answers_from_scores

READ_BYTES = 1 << 16
"""Less than the size from which malloc maps new memory for each read, which costs as much as a
small query."""

GC_OBJECTS = 100_000
"""New objects after which the garbage collector runs. A message has up to 8,192 lists without a
cycle, which would start it a dozen times."""


class Connection:
    """The two pipes to the driver, which the instances of the engine share.

    Args:
        queries: the descriptor that messages are read from.
        replies: the descriptor that replies are written to.

    Attributes:
        command: the last message that is not a query, until it is carried out.
    """

    def __init__(self, queries: int, replies: int) -> None:
        self._queries, self._replies = queries, replies
        self._unfinished: list[bytes] = []
        self._lines: deque[bytes] = deque()
        self._read_lock, self._write_lock = threading.Lock(), threading.Lock()
        self.command: dict[str, Any] | None = None

    def take_queries(self, max_examples: int) -> list[dict[str, Any]]:
        """Wait for a query, and take further ones that have arrived.

        Args:
            max_examples: the number of examples from which on no further query is taken.

        Returns:
            The queries; none at the end of the input, or while there is a command.
        """
        taken: list[dict[str, Any]] = []
        count = 0
        with self._read_lock:
            while count < max_examples and self.command is None:
                if not self._lines and not self._read_line(wait=not taken):
                    break
                message = json.loads(self._lines.popleft())
                if "op" in message:
                    self.command = message
                else:
                    taken.append(message)
                    count += len(message["examples"])
        return taken

    def send(self, *messages: dict[str, Any]) -> None:
        """Send messages, one per line."""
        data = memoryview("".join(json.dumps(message) + "\n" for message in messages).encode())
        with self._write_lock:
            while data:
                data = data[os.write(self._replies, data) :]

    def exit(self, error: BaseException | None = None) -> NoReturn:
        """End the process at once, so that no exit handler of a library keeps the driver waiting.

        Args:
            error: why, to be reported to the driver.
        """
        if error is not None and not isinstance(error, BrokenPipeError):
            reason = f"{type(error).__name__}: {error}"
            print(reason, file=sys.stderr, flush=True)
            self.send({"error": reason})
            os._exit(1)
        os._exit(0)

    def _read_line(self, wait: bool) -> bool:
        """Read until a line is complete, or without `wait` what has arrived.

        Returns:
            Whether a line is complete.
        """
        while wait or select.select([self._queries], [], [], 0)[0]:
            data = os.read(self._queries, READ_BYTES)
            if not data:
                return False
            *lines, rest = data.split(b"\n")
            if lines:
                lines[0] = b"".join([*self._unfinished, lines[0]])
                self._lines.extend(lines)
                self._unfinished = [rest]
                return True
            self._unfinished.append(data)
        return False


def serve(connection: Connection) -> None:
    """Load the engine that the driver names and answer with it, until the input ends."""
    assert not connection.take_queries(1), "a query came before the engine was loaded"
    while connection.command is not None and connection.command["op"] == "load":
        message = connection.command
        config = EngineConfig(
            Path(message["artifact"]),
            message["about"],
            ServeConfig(**message["serve"]),
            message["threads"],
            message.get("device", "cpu"),
            Path(message["folder"]) if message.get("folder") else None,
        )
        engine = load_engine(config)
        connection.command = None
        gc.collect()
        gc.freeze()  # a collection while queries are answered does not look at the engine
        connection.send({"ready": True})
        while _answer_until_command(connection, engine, config) == "report":
            connection.command = None
            report = engine.report() if isinstance(engine, ReportingEngine) else {}
            connection.send({"report": report})
        del engine  # the next one can use its memory
        gc.unfreeze()
        gc.collect()


def _answer_until_command(connection: Connection, engine: Engine, config: EngineConfig) -> str:
    """Let all instances answer until the input ends or there is a command.

    Returns:
        The name of the command, or ''.
    """
    arguments = (connection, engine, config.serve.batch)
    others = [
        threading.Thread(target=_run_instance, args=arguments) for _ in range(config.instances - 1)
    ]
    for thread in others:
        thread.start()
    _run_instance(*arguments)
    for thread in others:
        thread.join()
    return str(connection.command["op"]) if connection.command else ""


def _run_instance(connection: Connection, engine: Engine, batch: int) -> None:
    """Answer as one instance: whenever it is free it takes at most a batch of waiting queries."""
    try:
        while queries := connection.take_queries(batch):
            examples = [example for query in queries for example in query["examples"]]
            if isinstance(engine, AnsweringEngine):
                answers = iter(engine.predict(examples))
            else:
                sizes = [len(example) for example in examples]
                answers = iter(answers_from_scores(engine.scores(examples), sizes))
            connection.send(
                *(
                    {"id": query["id"], "answers": list(islice(answers, len(query["examples"])))}
                    for query in queries
                )
            )
    except BaseException as error:
        connection.exit(error)


def main() -> None:
    """Serve, with stdout redirected to stderr, so that what a library prints is not taken for a
    reply.
    """
    gc.set_threshold(GC_OBJECTS)
    connection = Connection(0, os.dup(1))
    os.dup2(2, 1)
    try:
        serve(connection)
    except BaseException as error:
        connection.exit(error)
    connection.exit()


if __name__ == "__main__":
    main()
