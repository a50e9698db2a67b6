"""The report and a sweep's page in a real browser, opened from disk: `make test-browser`.

Needs Chromium (Debian: chromium; CHROMIUM=path elsewhere) and `npm ci` in this folder.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exporter.builds.records import Manifest
from exporter.fleet.files import PAGE, write
from exporter.fleet.record import SweepRecord
from exporter.report import write_report
from tests import manifests
from tests.fleet.test_page import SWEEPS
from tests.hostile import hostile

pytestmark = pytest.mark.browser

HERE = Path(__file__).parent
FLEET = {"fleet": "priced", "fleet that failed": "failed", "fleet untrained": "untrained"}
"""Pages of sweeps, by what `tests/fleet` calls them."""
PAGES: dict[str, Callable[[], Manifest | SweepRecord]] = {
    **{name: SWEEPS[which] for name, which in FLEET.items()},
    "whole": manifests.resnet50,
    "trained": lambda: manifests.resnet50(trained=True, drift=False),
    "failed": manifests.failed,
    "not finite": manifests.not_finite,
    "bare": lambda: manifests.without_blocks(manifests.unmeasured()),
    "hostile": lambda: hostile(manifests.resnet50(trained=True)),
}


@pytest.fixture(scope="module", params=PAGES)
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What happened in the browser, for each kind of build; REPORT_SCREENSHOTS keeps pictures."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert chromium, "no Chromium: apt-get install chromium, or CHROMIUM=path"
    assert (HERE / "node_modules").is_dir(), f"no tools: npm ci --ignore-scripts --prefix {HERE}"
    folder = tmp_path_factory.mktemp(request.param)
    shown = PAGES[request.param]()
    if isinstance(shown, SweepRecord):
        write(folder, shown)
        page = folder / PAGE
    else:
        page, _ = write_report(folder, shown)
    command = ["node", str(HERE / "check_page.mjs"), chromium, str(page)]
    kept = os.environ.get("REPORT_SCREENSHOTS")
    if kept:
        pictures = Path(kept) / request.param
        pictures.mkdir(parents=True, exist_ok=True)
        command.append(str(pictures))
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    result["name"] = request.param
    return result


def test_no_message_and_no_request(seen: Any) -> None:
    assert seen["messages"] == []
    assert seen["requests"] == []


def test_axe_finds_nothing(seen: Any) -> None:
    assert [(view["width"], view["colorScheme"]) for view in seen["views"]] == [
        (1440, "light"), (1440, "dark"), (390, "light"), (390, "dark"),
    ]  # fmt: skip
    for view in seen["views"]:
        assert view["violations"] == []
        # Single digits, and cells that are scrolled out: their styles are decided elsewhere.
        assert all(said.startswith("color-contrast: ") for said in view["undecided"])
        assert {"color-contrast", "button-name", "td-headers-attr"} <= set(view["passes"])


def test_the_page_fits_its_window_in_both_schemes(seen: Any) -> None:
    for view in seen["views"]:
        assert view["scrollWidth"] <= view["width"]
        assert view["overflowing"] == []
        dark = sum(int(x) for x in view["background"].strip("rgb()").split(",")) < 200
        assert dark == (view["colorScheme"] == "dark")


def test_no_letter_of_a_drawing_leaves_the_window(seen: Any) -> None:
    if seen["name"] == "hostile":
        pytest.skip("layers whose names have 80 letters: they are drawn on one line")
    assert [view["outside"] for view in seen["views"]] == [[]] * 4


def test_a_wide_screen_shows_every_column(seen: Any) -> None:
    if seen["name"] == "hostile":
        pytest.skip("names of 80 letters: no screen is wide enough for a table of them")
    for view in seen["views"]:
        assert view["cut"] == [] or view["width"] < 600


def test_the_answer_and_the_bars_are_on_the_first_screen(seen: Any) -> None:
    if seen["name"] == "hostile":
        pytest.skip("a name of 80 letters, ten times: its header alone fills the screen")
    for view in seen["views"]:
        assert view["answer"] or view["width"] < 600
        if seen["name"] == "whole":
            widths = view["bars"]
            assert widths == sorted(widths, reverse=True)
            assert widths[0] / widths[2] == pytest.approx(5.55 / 1.73, rel=0.02)


def test_tables_sort_from_the_keyboard(seen: Any) -> None:
    def key(value: str) -> float:
        return float(value)

    for sorted_ in seen["sorting"]:
        assert sorted_["said"] == sorted_["wanted"]
        assert sorted_["others"] == 0
        values = [value for value in sorted_["values"] if value != "\N{EM DASH}"]
        assert sorted_["values"][: len(values)] == values, "what is absent comes last"
        try:
            numbers = [key(value) for value in values]
        except ValueError:
            continue
        assert numbers == sorted(numbers, reverse=sorted_["wanted"] == "descending"), sorted_
    ends = [one for one in seen["sorting"] if "rows" in one]
    assert len(ends) >= 3
    for one in ends:
        assert one["rows"][0] == one["rows"][1]
        assert one["buttons"][0] == one["buttons"][1]


def test_tab_reaches_everything_and_shows_where_it_is(seen: Any) -> None:
    focus = seen["focus"]
    assert len(focus["seen"]) == focus["expected"] >= 15
    assert all(place["tag"] != "BODY" for place in focus["seen"])
    assert all(place["outlined"] for place in focus["seen"])


def test_paper_is_light_and_unfolded(seen: Any) -> None:
    assert seen["print"]["background"] == "rgb(255, 255, 255)"
    assert seen["print"]["folded"] == 0
    assert seen["print"]["bytes"] > 10_000


def test_without_scripts_the_page_is_complete(seen: Any) -> None:
    assert seen["noScript"]["buttons"] == 0
    assert seen["noScript"]["rows"] >= 2
    assert seen["noScript"]["heading"] == "engine"
