"""The page, in a browser. Debian's chromium and chromium-driver must be there; where CI is set they
are, or the test fails.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.reports.results_folder import write_board
from harness.results import record
from tests.support.records import golden_records, make_record
from tests.support.sessions import write_session
from tests.support.systems import REPOSITORY

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (BROWSER and DRIVER) and "CI" not in os.environ,
        reason="apt install chromium chromium-driver",
    ),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("page")
    golden_records(results / "records")
    write_board(results)
    return results / "index.html"


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    from selenium import webdriver

    assert BROWSER, "apt install chromium chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER)) as driver:
        yield driver


@pytest.fixture
def browser(chromium, page: Path):
    chromium.set_window_size(1280, 900)
    chromium.get(page.as_uri())
    from selenium.webdriver.support.ui import Select

    # the session of `quick`, played offline, is what the golden records are about
    select = Select(one(chromium, "#section"))
    for number, option in enumerate(select.options):
        if option.text == "sentiment, offline, cpu-2, CPU, 2 cores (avx2)":
            select.select_by_index(number)
    return chromium


def one(browser, selector: str):
    return browser.find_element("css selector", selector)


def names(browser) -> list[str]:
    found = browser.find_elements("css selector", "#table tbody tr[data-name] td:first-child")
    return [element.text for element in found]


def column(browser, head: str) -> list[str]:
    heads = [element.text for element in browser.find_elements("css selector", "#table th")]
    place = next(n for n, text in enumerate(heads, start=1) if text.startswith(head))
    found = browser.find_elements("css selector", f"#table tbody tr td:nth-child({place})")
    return [element.text for element in found]


def press(browser, head: str) -> None:
    for element in browser.find_elements("css selector", "#table th button"):
        if element.text.startswith(head):
            element.click()
            return
    raise AssertionError(head)


def test_page_asks_for_nothing_and_says_nothing(browser, page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"(src|href)\s*=\s*[\"'](https?:)?//", text)
    assert "@import" not in text
    assert browser.get_log("browser") == []
    loaded = browser.execute_script("return performance.getEntriesByType('resource').length")
    assert loaded == 0


def test_head_sorts_both_ways_and_says_so(browser) -> None:
    def rates() -> list[float]:
        """Of the systems; the control is in the last row."""
        systems = column(browser, "examples/s")[:-1]
        return [float(rate.replace(",", "")) for rate in systems if rate != "-"]

    press(browser, "examples/s")
    assert rates() == sorted(rates(), reverse=True)
    head = one(browser, "#table th[aria-sort='descending']")
    assert head.text.startswith("examples/s")
    press(browser, "examples/s")
    assert rates() == sorted(rates())
    assert one(browser, "#table th[aria-sort='ascending']").text.startswith("examples/s")
    assert column(browser, "examples/s")[-2] == "-", "what has no figure stands last, either way"


def test_filter_keeps_what_holds_all_words(browser) -> None:
    box = one(browser, "#filter")
    box.send_keys("distilled INT8")
    assert sorted(names(browser)) == ["distilled-int8", "distilled-int8-multi"]
    assert one(browser, "#count").text.startswith("2 of ")
    box.clear()
    box.send_keys("baseline")
    assert set(column(browser, "division")) == {"baseline"}


def test_floor_and_points_are_switches(browser) -> None:
    assert "small@soon" in names(browser)
    one(browser, "#points").click()
    assert "small@soon" not in names(browser)
    one(browser, "#ranked").click()
    assert "small" not in names(browser)
    assert "fastformers" in names(browser)


def test_axis_switches_and_the_frontier_is_told(browser) -> None:
    from selenium.webdriver.support.ui import Select

    first = one(browser, "#plot-text").get_attribute("textContent")
    assert first.startswith("The frontier, from left to right: minilm-l6-unpadded 0.9000")
    assert "fastformers" in first
    Select(one(browser, "#x-axis")).select_by_value("energy_wh_per_1k")
    second = one(browser, "#plot-text").get_attribute("textContent")
    assert second.index("fastformers") < second.index("minilm-l6-unpadded"), "less energy is left"
    assert "energy" in one(browser, "#plot-title").get_attribute("textContent")
    offered = [element.text for element in Select(one(browser, "#x-axis")).options]
    assert not any("latency" in label for label in offered), "offline has no latencies"


def test_single_stream_offers_latency(browser) -> None:
    from selenium.webdriver.support.ui import Select

    Select(one(browser, "#section")).select_by_visible_text(
        "sentiment, single stream, cpu-2, CPU, 2 cores (avx2)"
    )
    assert any("latency" in element.text for element in Select(one(browser, "#x-axis")).options)
    assert "p50 ms" in [
        element.text for element in browser.find_elements("css selector", "#table th")
    ]


def test_script_in_a_title_is_text(browser) -> None:
    one(browser, "#filter").send_keys("script alert")
    assert names(browser) == ["fast|<b>"]
    one(browser, "#table tbody button").click()
    details = one(browser, "tr.details")
    assert "<script>alert(1)</script>" in details.text
    assert "A & B, <b>" in details.text
    assert details.find_elements("css selector", "script, b") == []
    assert browser.execute_script("return document.scripts.length") == 3
    link = details.find_element("css selector", "a").get_attribute("href")
    assert link.endswith("records/s1/sentiment/offline/fast%7C%3Cb%3E.json")


def test_details_open_with_the_keyboard_and_close(browser) -> None:
    from selenium.webdriver.common.keys import Keys

    one(browser, "#filter").send_keys("fastformers")
    button = one(browser, "#table tbody button")
    assert button.get_attribute("aria-expanded") == "false"
    button.send_keys(Keys.ENTER)
    assert one(browser, "#table tbody button").get_attribute("aria-expanded") == "true"
    text = one(browser, "tr.details").text
    assert "wattbench bench --suite quick --system fastformers" in text
    assert "finetune → export" in text
    assert "3: score 0.8870 ± 0.0066" in text
    assert browser.switch_to.active_element.text == "fastformers", "the focus stays"
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.find_elements("css selector", "tr.details") == []


def test_point_of_the_plot_opens_its_row(browser) -> None:
    browser.execute_script(
        "[...document.querySelectorAll('#plot .point')]"
        ".find(element => element.textContent.startsWith('fastformers:'))"
        ".dispatchEvent(new Event('click'))"
    )
    assert one(browser, "tr.details").text.startswith("title\nfastformers")


def test_theme_can_be_switched(browser) -> None:
    def back() -> str:
        return browser.execute_script("return getComputedStyle(document.body).backgroundColor")

    button = one(browser, "#theme")
    before, pressed = back(), button.get_attribute("aria-pressed")
    button.click()
    assert back() != before
    assert button.get_attribute("aria-pressed") != pressed


@pytest.fixture
def committed(chromium) -> Iterator[object]:
    """The committed page, whose sections have long names and many systems."""
    chromium.get((REPOSITORY / "results" / "index.html").as_uri())
    yield chromium
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def set_width(browser, width: int) -> None:
    """Emulate a screen; the window of a browser without a screen cannot be as narrow as a phone."""
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 640}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def each_section(browser) -> Iterator[str]:
    from selenium.webdriver.support.ui import Select

    select = Select(one(browser, "#section"))
    assert len(select.options) > 5
    for index, option in enumerate(select.options):
        select.select_by_index(index)
        yield option.text


@pytest.mark.parametrize("width", [390, 320])
def test_phone_scrolls_the_table_and_not_the_page(committed, width: int) -> None:
    set_width(committed, width)
    for section in each_section(committed):
        assert committed.execute_script("return innerWidth") == width
        inside = "return document.documentElement.scrollWidth <= innerWidth"
        assert committed.execute_script(inside), section
        assert committed.execute_script(
            "const box = document.querySelector('.scroll');return box.scrollWidth > box.clientWidth"
        ), section


def test_controls_of_the_form_are_large_enough_for_a_finger(committed) -> None:
    set_width(committed, 390)
    for element in committed.find_elements("css selector", "main select, main input, #theme"):
        assert max(element.size["height"], element.size["width"]) >= 44, element.tag_name


BOXES = """
const boxes = (selector) => [...document.querySelectorAll(selector)].map((node) => {
  const { x, y, width, height } = node.getBBox();
  return { name: node.textContent, x, y, right: x + width, bottom: y + height };
});
return [boxes("#plot text.name"), boxes("#plot .point"), boxes("#plot .tick")];
"""

LEADERS = (
    "return [...document.querySelectorAll('#plot .leader')].map((line) => line.getTotalLength());"
)


def overlapping(boxes: list[dict], others: list[dict]) -> list[tuple[str, str]]:
    return [
        (box["name"], other["name"])
        for box in boxes
        for other in others
        if box is not other
        and box["x"] < other["right"]
        and other["x"] < box["right"]
        and box["y"] < other["bottom"]
        and other["y"] < box["bottom"]
    ]


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_names_in_the_plot_cover_no_point_and_no_other_text(committed, width: int) -> None:
    set_width(committed, width)
    for section in each_section(committed):
        labels, points, texts = committed.execute_script(BOXES)
        if not points:  # a task that no model learned
            assert "above the majority class" in one(committed, "#plot").text, section
            assert section.startswith("wsc"), section
            continue
        assert len(labels) > 2, section
        assert overlapping(labels, labels + points + texts) == [], section
        if width > 640:
            systems = {name for point in points if "@" not in (name := point["name"].split(":")[0])}
            assert {label["name"] for label in labels} == systems, "no name is left out"
            assert max(committed.execute_script(LEADERS), default=0) < 120, (
                "a name lies near its point"
            )


def test_controls_are_the_last_rows_however_the_table_is_sorted(committed) -> None:
    for head in ("system", "examples/s", "score"):
        for _ in range(2):
            press(committed, head)
            shown = names(committed)
            line = one(committed, "tr.first-control")
            first = shown.index(line.get_attribute("data-name"))
            assert set(shown[first:]) <= {"null", "majority"}
            assert not {"null", "majority"} & set(shown[:first])


def test_everything_to_press_has_a_name(browser) -> None:
    unnamed = browser.execute_script(
        "return [...document.querySelectorAll('button, select, input')]"
        ".filter(node => !(node.textContent.trim() || (node.labels && node.labels.length)))"
        ".map(node => node.outerHTML)"
    )
    assert unnamed == []


def test_page_of_nothing_but_failures_says_so(chromium, tmp_path: Path) -> None:
    for name in ("ref", "other"):
        it, side = make_record(name, [], 0.5)
        it.score, it.artifact = None, None
        it.failure = {"reason": "it closed its output", "stderr": ""}
        record.write_record(it, side | {"answers": []}, tmp_path / "records")
    write_board(tmp_path)
    chromium.get((tmp_path / "index.html").as_uri())
    assert sorted(names(chromium)) == ["other", "ref"]
    assert "no system with this figure" in one(chromium, "#plot").text
    assert chromium.get_log("browser") == []
    one(chromium, "#table tbody button").click()
    assert "it closed its output" in one(chromium, "tr.details").text


def test_details_are_in_sight_where_the_table_is_scrolled(browser) -> None:
    browser.execute_script("document.querySelector('.scroll').scrollLeft = 10000")
    one(browser, "#table tbody button").click()
    browser.execute_script("document.querySelector('.scroll').scrollLeft = 10000")
    left = browser.execute_script(
        "return document.querySelector('tr.details dl').getBoundingClientRect().left"
    )
    assert left >= 0


def test_sorting_by_a_column_that_is_gone_is_undone(browser) -> None:
    from selenium.webdriver.support.ui import Select

    press(browser, "USD/100M")
    Select(one(browser, "#section")).select_by_visible_text(
        "sentiment, single stream, cpu-2, CPU, 2 cores (avx2)"
    )
    press(browser, "system")
    *systems, control = names(browser)
    assert (systems, control) == (sorted(systems), "null")


@pytest.fixture
def accumulated(chromium, tmp_path: Path):
    """A page of several sessions, at its section with several."""
    from selenium.webdriver.support.ui import Select

    records = tmp_path / "records"
    write_session(records, "2026-cpu-1111", 1, {"fast": 8.0, "small": 4.0})
    write_session(records, "2026-cpu-2222", 2, {"fast": 9.0, "my-idea": 6.0})
    write_session(records, "2026-cpu-3333", 3, {"fast": 9.0}, blocks=1)
    write_board(tmp_path)
    chromium.get((tmp_path / "index.html").as_uri())
    assert len(Select(one(chromium, "#section")).options) == 1
    return chromium


def test_rows_of_several_sessions_are_drawn_against_their_speedups(accumulated) -> None:
    assert one(accumulated, "#x-axis").get_attribute("value") == "speedup"
    assert "Session 2026-cpu-2222 and 1 earlier" in one(accumulated, "#description").text


def test_details_show_the_history_of_a_system(accumulated) -> None:
    (button,) = [
        element
        for element in accumulated.find_elements("css selector", "#table tbody td button")
        if element.text == "fast"
    ]
    button.click()
    lines = accumulated.find_elements("css selector", ".history tbody tr")
    cells = [[cell.text for cell in line.find_elements("css selector", "td")] for line in lines]
    assert [(row[0], row[-1]) for row in cells] == [
        ("3333", "newer, not comparable"),
        ("2222", "shown"),
        ("1111", "older"),
    ]
    assert len(accumulated.find_elements("css selector", ".history circle")) == 6
    assert "newer, not comparable (session 2026-cpu-3333)" in one(accumulated, "tr.details").text
