"""From examples to batches and back: what the engines of encoders share."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tokenizers import Tokenizer

from harness.engines.base import Candidates, EngineConfig
from harness.errors import HarnessError
from harness.models import tokenization
from harness.models.answers import Scores


class EncoderEngine:
    """Tokenizes, forms batches as `[serve]` requests, and returns the scores in the given order.

    Args:
        config: what to load: an artifact with a `tokenizer.json`.
        forward: from a padded batch to float32 scores [inputs, labels]; with several instances it
            is called from as many threads at once.

    Raises:
        HarnessError: the model has no padding token, but `[serve]` requires padding.
    """

    def __init__(
        self, config: EngineConfig, forward: Callable[[tokenization.Batch], Scores]
    ) -> None:
        self.max_length = int(config.metadata["max_length"])
        self.tokenizer: Tokenizer = tokenization.load_tokenizer(
            config.folder / "tokenizer.json", self.max_length
        )
        model = config.metadata.get("model", {})
        self.serve = config.serve
        self.length = self.max_length if config.serve.padding == "max" else None
        if "length" in model:  # of a graph that takes no other
            self.length = int(model["length"])
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
        self.instances = config.instances
        self.pool = ThreadPoolExecutor(self.instances) if self.instances > 1 else None

    def scores(self, examples: Sequence[Candidates]) -> Scores:
        """Return float32 [candidates, labels]."""
        rows = [candidate for example in examples for candidate in example]
        encodings = tokenization.tokenize(self.tokenizer, rows)
        if len(rows) == 1:  # in the scenario `server` the instances call this in parallel
            return self.forward(tokenization.pad(encodings, self.length, self.padding))
        lengths = [self.length or len(encoding.ids) for encoding in encodings]
        batches = plan_batches(lengths, self.serve.batch, self.serve.order, self.serve.tokens)
        parts: dict[int, Scores] = {}
        numbers = iter(range(len(batches)))

        def work() -> None:
            for number in numbers:  # shared: every instance takes the next batch
                batch = [encodings[row] for row in batches[number]]
                parts[number] = self.forward(tokenization.pad(batch, self.length, self.padding))

        if self.pool and len(batches) > 1:
            for future in [self.pool.submit(work) for _ in range(self.instances)]:
                future.result()
        else:
            work()
        scores: Scores = np.empty((len(rows), parts[0].shape[1]), np.float32)
        for number, part in parts.items():
            scores[batches[number]] = part
        return scores


def plan_batches(
    lengths: Sequence[int], batch: int, order: str, tokens: int = 0
) -> list[list[int]]:
    """Return batches of row numbers that hold every input once.

    Args:
        lengths: number of tokens of each input.
        batch: largest number of inputs in a batch.
        order: `given`, or `by-length`, which starts with the longest inputs, so that the instances
            finish together.
        tokens: largest number of tokens in a batch, including padding; 0 for no limit.
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
