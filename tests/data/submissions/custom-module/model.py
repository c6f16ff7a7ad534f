import json
import re
from pathlib import Path


class Words:
    def load(self, artifact, metadata, serve, threads):
        self.weights = json.loads((Path(artifact) / "weights.json").read_text())

    def predict(self, examples):
        return [self.label(candidates[0][0]) for candidates in examples]

    def label(self, text):
        return int(
            sum(self.weights.get(word, 0) for word in re.findall("[a-z]+", text.lower())) >= 0
        )
