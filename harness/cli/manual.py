"""What the `wattbench` command says of itself and of each of its commands."""

HELP = {
    "bench": "Build what is missing, measure, and draw the leaderboard: what `tox -e bench` runs.",
    "build": "Build systems: run their recipes, skipping what the store already holds.",
    "run": "Measure built systems in one session and write its records.",
    "board": "Draw tables and pictures from the records in RESULTS/records.",
    "report": "Print the energy report of a session, for an organiser or a paper.",
    "compare": "Compare two systems, or two sessions before and after a change.",
    "waterfall": "Measure a submission with each of its choices left out in turn.",
    "reproduce": "Set the suite's ladder beside a published table.",
    "verify": "Measure published records again on this machine, and say which claims hold.",
    "export": "Write a built system as a folder that answers without the project.",
    "ladder": "Print what each rung of the suite's ladder adds, from the records of one session.",
    "steps": "List the steps that a recipe may have, with their parameters.",
    "doctor": "Report what makes this machine noisy, and how to fix it.",
    "tasks": "List the tasks: sizes, metric, majority score, licence, source, whether at hand.",
    "systems": "List baselines and submissions: division, recipe, engine, whether they are built.",
    "new": "Write the folder of a new submission, to be filled in.",
    "check": "Check a submission folder, say all its faults at once, and how long it will build.",
    "audit": "Ask a built submission in ways that show caches, memorised answers and the like.",
    "predict": "Write a system's answers to a split, as the task's official server takes them.",
}

CHOICE = """
Without --system the suite's default systems are taken, with --ladder those of its ladder, with
--all every system that declares one of its tasks; the reference, the unpadded reference and `null`
are always among them. The configuration fixes cores, threads, memory, price and watts; one that
does not fit this machine is refused.
"""

DETAILS = {
    "bench": CHOICE
    + """
Building takes minutes the first time and nothing after that. Measuring takes about a minute a block
for the default systems on two cores, and another minute in the first block, whose offline pass
covers the whole set. Keep the machine quiet meanwhile.
""",
    "build": CHOICE
    + """
Every step's result is kept under a key that hashes all it is made of, so a change of a manifest
builds only what depends on it. An interrupted build goes on with the first step that is missing.
""",
    "run": CHOICE
    + """
Each block plays one round of every system in shuffled order, each in a fresh worker process. Whole
blocks are written to RESULTS/records; --resume goes on with a session, its systems and scenarios,
until it has --rounds blocks.
--until 3% goes on until the interval of every offline speed-up is within 3% of its value, or the
time is up. --explain prints what would be measured, for how long and why, and measures nothing.
""",
    "board": """
Writes README.md, leaderboard.csv, leaderboard.json, index.html (the same as a page to sort and
filter), energy-report.md, energy-report.csv, pareto.svg and ladder.svg. A record that cannot be
read is named and left out. Of several sessions of one machine and configuration the latest that
holds the reference is shown.
""",
    "report": """
For each system and task: watt-hours of the whole evaluation set, loading and answering apart, mean
watts, duration, CO2 and where the figures come from; and how much less than the reference that is.
`wattbench board` writes the same to RESULTS/energy-report.md and energy-report.csv.
""",
    "compare": """
Two systems are compared within the latest session that holds both, on the same examples and block
by block. Two sessions (names, or folders RECORDS/SESSION of another results folder) are compared
system by system: speed-ups over the reference, scores on the same examples, memory. The exit status
is 1 when one became worse beyond noise: Holm's correction over all of them, 5% in all, and more
than --tolerance.
""",
    "waterfall": """
Each choice of [serve] is set back to its default in turn, padding to the task's max length among
them, and each step that only executes the model differently is left out. All variants are measured
in one session, which RESULTS/waterfall keeps apart from the board. With --retrain also the steps
that train are left out, each variant being built first.
""",
    "reproduce": """
NAME is a file of baselines/published. Where no session holds the whole ladder on that task, or with
--again, the ladder is built and measured first.
""",
    "verify": """
Builds and measures the systems of the published session again, writes the new records to --out, and
compares scores on the same examples, the floor, speed-ups and the order of the systems, claim by
claim. A speed-up holds where both values are within a third. The exit status is 1 when a
claim does not hold. --against compares with records that are there, and measures nothing.
""",
    "export": """
The folder holds the model, its tokenizer, the engine's own code, predict.py, requirements.txt with
what that needs and no more, and a model card with the figures that RESULTS has of the system.
""",
    "ladder": """
The table of the FastFormers paper (Kim & Hassan 2020, Table 3): the time for the whole set, how
much faster each rung is than the first and than the one before, its score and its price. All rungs
come from the latest session that holds them all; `bench --ladder` measures one.
""",
    "steps": "",
    "doctor": """
Looks at cores, quota, governor, SMT, swap, other processes, the hypervisor's steal and the energy
counters, and times a fixed piece of work over and over for a few seconds. Nothing is changed.
""",
    "tasks": "",
    "systems": "",
    "predict": """
The system must be built. One file for a task, named as the SuperGLUE server wants it (BoolQ.jsonl,
RTE.jsonl, ...), from the answers of the system's own worker.
""",
    "new": """
Writes submissions/NAME with a commented manifest and a README to fill in: a recipe over the
reference, a copy of another system (--from), or code of one's own, a Python class (--python) or any
program (--command), that answers at once, if badly. docs/submitting.md goes on from there.
""",
    "check": """
Faults are said with file, place and remedy. Steps are followed from the model on, so that a step
that cannot take what it gets, or more heads than the model has, is found before hours are spent.
Nothing of the submission is run. The time is an estimate from the size of what is trained.
""",
    "audit": """
After MLPerf's compliance tests: other order and batches, repeated examples, other words of the same
length, lightly changed text, timed answers against those of the accuracy pass, the artifact, and
in the closed division the weights. The exit status is 1 when a probe fails; RULES.md says what
follows.
""",
}

EPILOG = """
examples:
  wattbench bench                                   the default systems of the suite `quick`
  wattbench bench --system onnx-int8 --rounds 2     one system and the references, quickly
  wattbench run --configuration cpu-1               the same systems on one core
  wattbench run --resume SESSION --rounds 10        go on with a session
  wattbench run --until 3% --minutes 30             until intervals are narrow
  wattbench run --scenario server --explain         what that would measure, and why
  wattbench run --model ./my-model --task task.toml one's own model on one's own data
  wattbench run --seeds 3                           with three training seeds each
  wattbench compare fastformers static              which is better, and for whom
  wattbench export fastformers ./taken-home         to answer elsewhere
  wattbench predict minilm-l6 --task rte            answers to the test split, for the server

Data, weights and built artifacts are kept in WATTBENCH_CACHE (default ~/.cache/wattbench).
WATTBENCH_DATA may name a folder with data to use instead of downloading: SuperGLUE's archive,
unpacked. Faults are said in one message; the exit status is 2 then, and 130 after Ctrl-C.
"""
