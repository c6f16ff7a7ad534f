"""Counts good and bad words: the least that answers. Put your own model in its place."""

import re

GOOD = set("best brilliant charming clever enjoyable funny good great love moving perfect".split())
BAD = set("awful bad bland boring dull fails mess predictable slow stupid tedious worst".split())


class Words:
    """What the harness calls; the name is free, the two methods are not."""

    def load(self, artifact, about, serve, threads):
        """Once, before anything is timed. artifact: the folder of the recipe's artifact, or ''.
        about: `labels` (how many), `max_length`, ... serve: [serve]. threads: how many to use.
        """

    def predict(self, examples):
        """One whole number an example. An example is a list of candidates (one, but where a choice
        is scored), a candidate a list of a text, or of a text and its pair.
        """
        return [self._label(" ".join(candidates[0])) for candidates in examples]

    def _label(self, text):
        words = re.findall("[a-z]+", text.lower())
        return int(sum(word in GOOD for word in words) >= sum(word in BAD for word in words))
