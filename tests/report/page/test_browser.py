"""The page in headless Chromium: no errors, nothing fetched, every chart drawn, fits a phone; the checker notices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from m3pc_ray.agent import Agent
from m3pc_ray.cli import main
from m3pc_ray.evaluation.record_plans import Kept, record_plans
from m3pc_ray.report.page.charts import Chart, Charts, Drawn
from m3pc_ray.report.page.page import POLICY, document
from m3pc_ray.report.page.section import Section
from tests.report.page.browser import WIDTHS, Seen, browser, chromium, look
from tests.report.page.made_up import online, played, pretrained
from tests.tiny_run import make_tiny_run
from tests.tune.result_tables import lambda_sweep, write

pytest.importorskip("playwright", reason="the Playwright package is not installed; `make setup` installs it")
pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium; `make browser` installs Debian's")


DRAWING = '<figure class="chart"><h3>Drawing</h3><svg width="9" height="9">'


@pytest.fixture(scope="module")
def opened() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages with everything on them that a report can have."""
    folder = tmp_path_factory.mktemp("pages")
    runs = {
        f"online-{n}-{s}": online(folder / f"{n}-{s}", s, **{"online.num_candidates": n})
        for n in (16, 64)
        for s in (0, 1)
    }
    runs["pretrained"] = pretrained(folder / "pretrained")
    played(runs["pretrained"])
    sweep = write(folder / "lambda", lambda_sweep())
    agent = Agent.load(make_tiny_run(folder / "tiny").path, planner="critic")
    record_plans(agent, runs["online-64-0"].path / "plans/critic-3.npz", 3, Kept(every=4), deterministic=True, about={})
    asked = {
        "one": [runs["online-16-0"].path],
        "all": [*(run.path for run in runs.values()), sweep],
    }
    for name, paths in asked.items():
        assert main(["report", *map(str, paths), "--out", str(folder / f"{name}.html")]) == 0
    return {name: folder / f"{name}.html" for name in asked}


@pytest.mark.parametrize("screen", WIDTHS)
@pytest.mark.parametrize("name", ["one", "all"])
def test_a_page_is_good(opened: Any, pages: dict[str, Path], name: str, screen: str) -> None:
    seen = look(opened, pages[name], screen, dark=screen == "phone")
    written = pages[name].read_text(encoding="utf-8").count('<figure class="chart" data-from=')
    of_plans = sum(title.startswith("plans: ") for title, _ in seen.charts)  # these are made by their script
    assert seen.problems(written + of_plans) == []
    assert written >= 15
    assert of_plans >= 5 if name == "all" else of_plans == 0


def test_values_appear_under_the_pointer(opened: Any, pages: dict[str, Path]) -> None:
    page = opened.new_page(viewport={"width": 1280, "height": 900})
    page.goto(pages["one"].as_uri())
    chart = page.locator("figure.chart").first
    chart.scroll_into_view_if_needed()
    legend = chart.locator(".u-legend")
    assert "90.0 (89.0 to 92.0)" in legend.inner_text()  # nobody points at it: where M³PC-Q came to
    box = chart.locator(".u-over").bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + box["height"] / 2)
    assert "80.0 (79.0 to 82.0)" in legend.inner_text()
    before = page.evaluate("document.querySelectorAll('figure.chart canvas')[0].toDataURL()")
    legend.locator(".u-series th", has_text="M³PC-Q").click()
    page.wait_for_timeout(100)
    assert page.evaluate("document.querySelectorAll('figure.chart canvas')[0].toDataURL()") != before
    page.close()


def test_another_moment_of_the_episode_is_drawn(opened: Any, pages: dict[str, Path]) -> None:
    page = opened.new_page(viewport={"width": 390, "height": 844})
    page.goto(pages["all"].as_uri())
    shown = "document.querySelector('.plan-view .plan-now').textContent"
    drawn = "document.querySelector('.plan-view .plan-state-panels').innerHTML"
    before = page.evaluate(shown), page.evaluate(drawn)
    page.locator(".plan-view .plan-next").click()
    page.wait_for_function(f"(before) => {shown} !== before", arg=before[0])
    assert page.evaluate(drawn) != before[1]
    page.close()


def test_charts_follow_the_screen_and_the_colour_scheme(opened: Any, pages: dict[str, Path]) -> None:
    page = opened.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page.goto(pages["one"].as_uri())
    canvas = "document.querySelector('figure.chart canvas')"
    light = page.evaluate(f"{canvas}.toDataURL()")
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"(light) => {canvas}.toDataURL() !== light", arg=light)
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_function(f"{canvas}.getBoundingClientRect().width < 390")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.close()


def broken(
    tmp_path: Path, opened: Any, *, html: str = "", script: str = "", policy: bool = True, values: Any = None
) -> Seen:
    """A page with one chart and something wrong with it."""
    charts = Charts("Test")
    body = charts.html([Chart("Chart", "says", "x", "y", [Drawn("series", 1, [0.0, 1.0], values or [1.0, 2.0])])])
    section = charts.section(body + html)
    page = document("broken", "", [Section(section.title, section.html, [script] if script else [], [], section.data)])
    if not policy:
        assert POLICY in page
        page = page.replace(POLICY, "default-src * 'unsafe-inline'")
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    return look(opened, tmp_path / "page.html", "phone")


def test_the_checker_finds_nothing_on_a_good_page(tmp_path: Path, opened: Any) -> None:
    assert broken(tmp_path, opened).problems(1) == []


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"script": 'console.error("it broke");'}, "console: it broke"),
        ({"script": "(() => { throw new Error('nobody caught this'); })();"}, "console: nobody caught this"),
        ({"html": '<img src="http://127.0.0.1:9/a.png">', "policy": False}, "request: http://127.0.0.1:9/a.png"),
        ({"script": 'fetch("http://127.0.0.1:9/b").catch(() => 0);', "policy": False}, "request: http://127.0.0.1:9/b"),
        ({"html": '<img src="other.png">', "policy": False}, "request: file://"),
        ({"html": '<img src="http://127.0.0.1:9/a.png">'}, "console: "),  # refused by the page's own policy
        ({"values": [None, None]}, "empty chart: test: Chart"),
        ({"html": f"{DRAWING}</svg></figure>"}, "empty chart: test: Drawing"),
        ({"html": '<p style="font-size: 9px">tiny</p>'}, "small text: 9 px: tiny"),
        ({"html": '<div style="width: 900px">wide</div>'}, "wider than the screen by"),
        ({"html": f'{DRAWING}<path d="M0 0L9 9"/></svg></figure>'}, "2 charts instead of 1"),
    ],
)
def test_the_checker_notices(tmp_path: Path, opened: Any, wrong: dict[str, Any], said: str) -> None:
    problems = broken(tmp_path, opened, **wrong).problems(1)
    assert any(problem.startswith(said) for problem in problems), problems
