"""From examples to batches and back: what the engines of encoders share."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tokenizers import Tokenizer

from harness.engines.base import Candidates, EngineConfig, Scores
from harness.errors import HarnessError
from harness.models import tokenization


class EncoderEngine:
    """Tokenizes, forms batches as `[serve]` says, runs them, and puts the scores back in order.

    forward: one padded batch to float32 scores [inputs, labels]; with several instances it is
    called by as many threads at once.
    """

    def __init__(self, what: EngineConfig, forward: Callable[[tokenization.Batch], Scores]) -> None:
        self.max_length = int(what.about["max_length"])
        self.tokenizer: Tokenizer = tokenization.load_tokenizer(
            what.folder / "tokenizer.json", self.max_length
        )
        self.length = self.max_length if what.serve.padding == "max" else None
        self.serve = what.serve
        model = what.about.get("model", {})
        self.padding = tokenization.Padding()
        if "padding" in model:
            if model["padding"] is None and (self.length or self.serve.batch > 1):
                raise HarnessError(
                    "this model has no padding token, so inputs cannot be padded. Set padding = "
                    "'longest' and batch = 1 in [serve]"
                )
            self.padding = tokenization.Padding(**(model["padding"] or {}))
        order = model.get("order")
        self.forward = (lambda batch: forward(batch)[:, order]) if order else forward
        self.instances = what.serve.count(what.threads)
        self.pool = ThreadPoolExecutor(self.instances) if self.instances > 1 else None

    def scores(self, examples: Sequence[Candidates]) -> Scores:
        """float32 [candidates, labels]."""
        rows = [candidate for example in examples for candidate in example]
        encodings = tokenization.tokenize(self.tokenizer, rows)
        if len(rows) == 1:  # also called so by each instance on its own, in `server`
            return self.forward(tokenization.pad(encodings, self.length, self.padding))
        lengths = [self.length or len(each.ids) for each in encodings]
        batches = plan_batches(lengths, self.serve.batch, self.serve.order, self.serve.tokens)
        parts: dict[int, Scores] = {}
        numbers = iter(range(len(batches)))

        def work() -> None:
            for number in numbers:  # shared: each instance takes the next batch
                chosen = [encodings[row] for row in batches[number]]
                parts[number] = self.forward(tokenization.pad(chosen, self.length, self.padding))

        if self.pool and len(batches) > 1:
            for done in [self.pool.submit(work) for _ in range(self.instances)]:
                done.result()
        else:
            work()
        scores: Scores = np.empty((len(rows), parts[0].shape[1]), np.float32)
        for number, part in parts.items():
            scores[batches[number]] = part
        return scores


def plan_batches(
    lengths: Sequence[int], batch: int, order: str, tokens: int = 0
) -> list[list[int]]:
    """Every input once, in batches of at most `batch` inputs and (unless 0) `tokens` tokens with
    their padding; `by-length` begins with the longest, so that instances end together.
    """
    rows = list(range(len(lengths)))
    if order == "by-length":
        rows.sort(key=lambda row: -lengths[row])
    batches: list[list[int]] = []
    longest = 0
    for row in rows:
        longest = max(longest, lengths[row])
        full = not batches or len(batches[-1]) == batch
        if full or (tokens and longest * (len(batches[-1]) + 1) > tokens):
            batches.append([])
            longest = lengths[row]
        batches[-1].append(row)
    return batches
