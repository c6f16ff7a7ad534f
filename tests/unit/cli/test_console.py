"""What the command prints on a terminal, on a narrow or plain one, and elsewhere."""

import re
from typing import Any

import pytest

from harness.cli import console as console_module
from harness.cli.console import Console
from harness.progress import ProgressLine, add_prefix, track
from tests.support.terminal import run_on_terminal

SETUP = """
from harness.cli.console import Console
from harness.progress import ProgressLine
console = Console()
"""


def strip_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).replace("\r", "")


def test_progress_says_share_and_time_left() -> None:
    assert ProgressLine("epoch 1/3", 0.25, 40) == "epoch 1/3 (25%, about 40 s left)"
    assert ProgressLine("epoch 1/3", 0.25, 600) == "epoch 1/3 (25%, about 10 min left)"
    assert ProgressLine("epoch 1/3", 0.25, 7200) == "epoch 1/3 (25%, about 2.0 h left)"
    assert ProgressLine("epoch 1/3", 0.0) == "epoch 1/3 (0%)"


def test_prefix_keeps_progress_and_does_not_make_it() -> None:
    line = add_prefix("  distill: ", ProgressLine("epoch 1/3", 0.5))
    assert isinstance(line, ProgressLine)
    assert (line.text, line.done) == ("  distill: epoch 1/3", 0.5)
    assert not isinstance(add_prefix("  distill: ", "done"), ProgressLine)


def test_track_logs_every_few_seconds_how_long_the_rest_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = iter([0.0, 0.0, 4.0, 8.0, 12.0])  # the start, then each of four items
    monkeypatch.setattr("harness.progress.time.monotonic", lambda: next(seconds))
    lines: list[str] = []
    assert list(track("abcd", lines.append, "texts")) == list("abcd")
    assert lines == ["texts (50%, about 8 s left)"]


def test_bar_is_drawn_on_a_terminal_and_leaves_only_lines() -> None:
    out = run_on_terminal(
        SETUP + "console(ProgressLine('block 1: static', 0.5, 90))\n"
        "console(ProgressLine('block 1: null', 0.75, 45))\nconsole('measured')"
    )
    text = strip_colours(out)
    assert "block 1: static" in text
    assert "50%" in text
    assert "about 2 min left" in text
    assert "about 45 s left" in text
    assert text.rstrip().endswith("measured")
    assert "\x1b[2K" in out.rpartition("about")[2]  # the bar is erased
    assert "\x1b[?25h" in out  # the cursor is shown again


def test_no_thread_redraws_the_bar() -> None:
    out = run_on_terminal(
        "import threading\n"
        + SETUP
        + "console(ProgressLine('block 1', 0.5, 90))\nthreads = threading.active_count()\n"
        "console(f'threads: {threads}')"
    )
    assert "threads: 1" in out


def test_long_line_of_progress_takes_one_row() -> None:
    out = run_on_terminal(SETUP + "console(ProgressLine('x' * 200, 0.5, 90))", columns=60)
    assert "\n" not in out.partition("50%")[0]
    frames = re.split(r"\x1b\[2K", out)
    assert all(len(strip_colours(frame).strip()) <= 60 for frame in frames)
    assert "50% about 2 min left" in strip_colours(out)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_table_fits_the_terminal_and_loses_nothing(columns: int) -> None:
    rows = [
        {"system": "fastformers", "recipe": "minilm-l6 > distill > prune > export", "score": 0.875},
        {"system": "static", "recipe": "[bold]not markup[/bold]", "score": 0.81},
    ]
    out = strip_colours(run_on_terminal(SETUP + f"console.print_table({rows!r})", columns))
    assert all(len(line) <= columns for line in out.splitlines())
    for word in ("fastformers", "minilm-l6", "distill", "0.875", "[bold]not", "markup[/bold]"):
        assert word in out, "words are not cut"


def test_dumb_terminal_gets_plain_lines() -> None:
    out = run_on_terminal(
        SETUP + "console(ProgressLine('block 1', 0.5, 90))\nconsole('measured')", TERM="dumb"
    )
    assert out == "block 1 (50%, about 2 min left)\r\nmeasured\r\n"


def test_without_a_terminal_progress_is_a_line_every_twenty_seconds_at_most(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console()
    now = [0.0]
    clock: Any = type("Clock", (), {"monotonic": staticmethod(lambda: now[0])})
    monkeypatch.setattr(console_module, "time", clock)
    for second in range(0, 61, 5):
        now[0] = float(second)
        console(ProgressLine(f"at {second}", 0.5))
    console("the end")
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["at 0 (50%)", "at 20 (50%)", "at 40 (50%)", "at 60 (50%)", "the end"]


def test_without_a_terminal_tables_have_any_width(capsys: pytest.CaptureFixture[str]) -> None:
    Console().print_table([{"system": "a", "title": "x" * 300}])
    assert "x" * 300 in capsys.readouterr().out


@pytest.mark.parametrize("columns", [44, 56, 80, 120])
def test_markdown_is_set_for_the_terminal_and_no_figure_is_cut(columns: int) -> None:
    rows = "| minilm-l6-unpadded | 0.000313 | 184x [169, 200] | 11,782x [10,730, 12,912] |\n" * 3
    text = (
        "sentiment, cpu-2\n\n| system | Wh/1k (modelled) | speed-up | unpadded |\n|--|--|--|--|\n"
        f"{rows}\n- warning: a &lt;b&gt; c\n- another\n"
    )
    out = strip_colours(run_on_terminal(SETUP + f"console.print_markdown({text!r})", columns))
    assert all(len(line) <= columns for line in out.splitlines())
    assert "…" not in out
    assert out.count("minilm-l6-unpadded") == 3
    assert out.count("0.000313") == 3
    assert out.count("[10,730,") == 3
    assert "warning: a <b> c" in out


def test_markdown_is_printed_as_it_is_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    Console().print_markdown("| a |\n|---|\n| b |")
    assert capsys.readouterr().out == "| a |\n|---|\n| b |\n"
