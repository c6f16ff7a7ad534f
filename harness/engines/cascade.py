"""Several engines, one after the other: each answers where it is sure enough, else passes on."""

from collections.abc import Sequence
from dataclasses import replace

from harness.engines.base import Candidates, Engine, EngineConfig, Scores
from harness.engines.base import load_engine as load_engine
from harness.engines.confidence import Rows, Rule, pass_through
from harness.engines.stages import Counted


class CascadeEngine:
    """Members are the folders `0`, `1`, ... of the artifact, each served by its own engine."""

    def __init__(self, what: EngineConfig) -> None:
        described = what.about["members"]
        self.members: list[Engine] = [
            load_engine(
                replace(
                    what,
                    folder=what.folder / str(number),
                    about=each["about"],
                    serve=replace(what.serve, engine=each["engine"], threshold="chosen"),
                )
            )
            for number, each in enumerate(described)
        ]
        self.rule = Rule.read(what.about.get("rule"), len(described), what.serve.threshold)
        self.counted = Counted(len(described))
        self.report = self.counted.report

    def scores(self, examples: Sequence[Candidates]) -> Scores:
        """float32 [candidates, labels], calibrated."""

        def ask(number: int, rows: Rows) -> Scores:
            return self.members[number].scores([examples[row] for row in rows])

        scores, left = pass_through(self.rule, [len(each) for each in examples], ask)
        self.counted.add(left)
        return scores


def load(what: EngineConfig) -> Engine:
    """Serve what the step `cascade` left."""
    return CascadeEngine(what)
