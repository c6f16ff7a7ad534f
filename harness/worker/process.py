"""The process in which an engine runs while it is measured; speaks docs/protocol.md over stdin and
stdout.

It imports only what its engine needs, and it never sees a label.
"""

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
    answers_from_scores,
)
from harness.engines.registry import load_engine

READ_BYTES = 1 << 16
"""Below what malloc maps and unmaps anew for each read, which costs as much as a small query."""


class Wire:
    """The two pipes to the driver; the engine's instances take from the one and send to the other.

    order: the last message that was no query, until it is carried out.
    """

    def __init__(self, queries: int, replies: int) -> None:
        self.queries, self.replies = queries, replies
        self.parts: list[bytes] = []
        self.lines: deque[bytes] = deque()
        self.taking, self.sending = threading.Lock(), threading.Lock()
        self.order: dict[str, Any] | None = None

    def take(self, most: int) -> list[dict[str, Any]]:
        """The next query, and of those already there as many as hold `most` examples in all.

        Returns: nothing at the end of the input, or while there is an order.
        """
        taken: list[dict[str, Any]] = []
        count = 0
        with self.taking:
            while count < most and self.order is None:
                if not self.lines and not self._read(wait=not taken):
                    break
                message = json.loads(self.lines.popleft())
                if "op" in message:
                    self.order = message
                else:
                    taken.append(message)
                    count += len(message["examples"])
        return taken

    def send(self, *messages: dict[str, Any]) -> None:
        """Each as a line."""
        data = memoryview("".join(json.dumps(each) + "\n" for each in messages).encode())
        with self.sending:
            while data:
                data = data[os.write(self.replies, data) :]

    def leave(self, fault: BaseException | None = None) -> NoReturn:
        """At once: no library's own farewell may keep the driver waiting."""
        if fault is not None and not isinstance(fault, BrokenPipeError):
            reason = f"{type(fault).__name__}: {fault}"
            print(reason, file=sys.stderr, flush=True)
            self.send({"error": reason})
            os._exit(1)
        os._exit(0)

    def _read(self, wait: bool) -> bool:
        """Read until a line is whole, or without `wait` what is there.

        Returns: whether a line is whole.
        """
        while wait or select.select([self.queries], [], [], 0)[0]:
            data = os.read(self.queries, READ_BYTES)
            if not data:
                return False
            self.parts.append(data)
            if b"\n" in data:
                *lines, rest = b"".join(self.parts).split(b"\n")
                self.lines.extend(lines)
                self.parts = [rest]
                return True
        return False


def serve(wire: Wire) -> None:
    """Load the engine that is ordered and answer with it, until the input ends."""
    assert not wire.take(1), "a query came before the engine was loaded"
    while wire.order is not None and wire.order["op"] == "load":
        what = EngineConfig(
            Path(wire.order["artifact"]),
            wire.order["about"],
            ServeConfig(**wire.order["serve"]),
            wire.order["threads"],
            wire.order.get("device", "cpu"),
            Path(wire.order["folder"]) if wire.order.get("folder") else None,
        )
        engine = load_engine(what)
        wire.order = None
        wire.send({"ready": True})
        while _play(wire, engine, what) == "report":
            wire.order = None
            wire.send({"report": engine.report() if isinstance(engine, ReportingEngine) else {}})


def _play(wire: Wire, engine: Engine, what: EngineConfig) -> str:
    """All instances answer until the input ends, or there is an order. Returns: which, or ''."""
    work = (wire, engine, what.serve.batch)
    instances = what.instances
    helpers = [threading.Thread(target=_answer, args=work) for _ in range(instances - 1)]
    for each in helpers:
        each.start()
    _answer(*work)
    for each in helpers:
        each.join()
    return str(wire.order["op"]) if wire.order else ""


def _answer(wire: Wire, engine: Engine, batch: int) -> None:
    """One instance: whenever it is free it takes at most a batch of the waiting queries."""
    try:
        while messages := wire.take(batch):
            examples = [each for message in messages for each in message["examples"]]
            if isinstance(engine, AnsweringEngine):
                given = iter(engine.predict(examples))
            else:
                given = iter(
                    answers_from_scores(engine.scores(examples), [len(each) for each in examples])
                )
            wire.send(
                *(
                    {"id": each["id"], "answers": list(islice(given, len(each["examples"])))}
                    for each in messages
                )
            )
    except BaseException as error:
        wire.leave(error)


def main() -> None:
    """Move the real stdout aside, so that a chatty library cannot speak on the line; then serve."""
    wire = Wire(0, os.dup(1))
    os.dup2(2, 1)
    try:
        serve(wire)
    except BaseException as error:
        wire.leave(error)
    wire.leave()


if __name__ == "__main__":
    main()
