"""The process in which an engine runs while it is measured; speaks docs/protocol.md over stdin and
stdout.

It imports only what its engine needs, and it never sees a label.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

from harness.engines.engine import Engine, Load, Serve, answers, load


def serve(queries: BinaryIO, replies: BinaryIO) -> None:
    """Answer line by line until the input ends."""
    engine: Engine | None = None
    for line in queries:
        message = json.loads(line)
        if message.get("op") == "load":
            engine = load(
                Load(
                    Path(message["artifact"]),
                    message["about"],
                    Serve(**message["serve"]),
                    message["threads"],
                    message.get("device", "cpu"),
                )
            )
            reply: dict[str, Any] = {"ready": True}
        else:
            assert engine is not None, "a query came before the engine was loaded"
            examples = message["examples"]
            reply = {
                "id": message["id"],
                "answers": answers(engine.scores(examples), [len(each) for each in examples]),
            }
        replies.write(json.dumps(reply).encode() + b"\n")


def main() -> None:
    """Move the real stdout aside, so that a chatty library cannot speak on the line; then serve."""
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    try:
        serve(os.fdopen(0, "rb", buffering=1 << 20, closefd=False), replies)
    except BrokenPipeError:
        os._exit(0)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        replies.write(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode() + b"\n")
        os._exit(1)
    os._exit(0)  # at once: no library's own farewell may keep the driver waiting


if __name__ == "__main__":
    main()
