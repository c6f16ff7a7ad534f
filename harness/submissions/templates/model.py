"""A minimal example: counts good and bad words. Replace it with your model."""

import re

GOOD = set("best brilliant charming clever enjoyable funny good great love moving perfect".split())
BAD = set("awful bad bland boring dull fails mess predictable slow stupid tedious worst".split())


class Words:
    """The class that wattbench loads. Its name is free; `load` and `predict` are required."""

    def load(self, artifact, metadata, serve, threads):
        """Load the model. Called once, before the clock starts.

        Args:
            artifact: the folder of the recipe's artifact as a string; '' if there is none.
            metadata: a dict with `labels` (the number of labels), `max_length`, and more for some
                artifacts.
            serve: the table [serve] of submission.toml as a dict.
            threads: how many threads to use.
        """

    def predict(self, examples):
        """Return one integer per example: the label, or the index of the best candidate.

        Args:
            examples: a list of examples. An example is a list of candidates: one, or several in a
                multiple-choice task. A candidate is a list of one text, or of a text and its pair.
        """
        return [self._label(" ".join(candidates[0])) for candidates in examples]

    def _label(self, text):
        words = re.findall("[a-z]+", text.lower())
        return int(sum(word in GOOD for word in words) >= sum(word in BAD for word in words))
