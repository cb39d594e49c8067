"""The page as text: what it holds, that it is one file, and that its words and commands are true."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3pc_ray.commands.finetune import add_arguments as add_finetune_arguments
from m3pc_ray.configuration import given_settings, load_config
from m3pc_ray.online.preparation import finetune_config
from m3pc_ray.report.page.advice import ADVICE, advice
from m3pc_ray.report.page.charts import Chart, Charts, Drawn
from m3pc_ray.report.page.exploration import explored_by, windows_of
from m3pc_ray.report.page.making import again
from m3pc_ray.report.page.page import POLICY, Contents, asset, document, render
from m3pc_ray.report.page.panels import LOSSES, OPERATION, panel_charts
from m3pc_ray.report.page.runs import group_runs, read_run
from m3pc_ray.report.page.section import Section
from m3pc_ray.report.page.summary import duration
from tests.report.page.made_up import online, pretrained
from tests.test_metrics_page import sections

UPLOT = "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"
"""SHA-256 of dist/uPlot.iife.min.js in uplot-1.6.32.tgz of the npm registry."""


def page_of(*runs) -> str:
    return render(Contents(group_runs([read_run(run.path) for run in runs])))


def data_of(page: str) -> dict[str, Mapping[str, Any]]:
    """The data of every section, by its id."""
    found = re.findall(r'<script type="application/json" id="data-([a-z-]+)">(.*?)</script>', page, re.S)
    return {name: json.loads(text) for name, text in found}


def test_it_has_every_section_and_draws_what_the_runs_measured(tmp_path: Path) -> None:
    page = page_of(online(tmp_path / "a", 0), online(tmp_path / "b", 1))
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == [
        "Summary",
        "Learning curves",
        "Exploration",
        "Losses by mask",
        "Throughput and waiting",
        "Configuration and versions",
        "Commands",
    ]
    for title in titles:
        assert f'href="#{Section(title, "").identity}"' in page
    data = data_of(page)
    evaluation = data["learning-curves"]["charts"][0]
    mean = evaluation["series"][[each["label"] for each in evaluation["series"]].index("M³PC-Q")]
    assert mean["x"] == [0, 500, 1000, 1500, 2000]
    assert mean["y"] == pytest.approx([80.5, 83, 85.5, 88, 90.5], rel=1e-4)
    seeds = [each["y"][0] for each in evaluation["series"] if each.get("faint")]
    assert seeds == [70, 71, 80, 81]
    assert page.count("<figure") == sum(len(section["charts"]) for section in data.values())
    assert "90.5" in page
    assert "7 h 13 min" in page
    assert "29 episodes" not in page  # 58 of two seeds, in four windows


def test_one_group_has_a_line_a_mask_and_several_a_chart_a_mask(tmp_path: Path) -> None:
    actions = LOSSES[0]
    one = group_runs([read_run(pretrained(tmp_path / "a").path)])
    (chart,) = panel_charts(actions, one)
    assert [each.label for each in chart.series] == ["RCBC", "ID", "BC", "GOAL"]
    two = group_runs([read_run(pretrained(tmp_path / f"b{n}", **{"model.width": n}).path) for n in (64, 256)])
    charts = panel_charts(actions, two)
    assert [chart.title for chart in charts] == [f"Actions, by mask: {mask}" for mask in ("RCBC", "ID", "BC", "GOAL")]
    assert [each.label for each in charts[0].series] == ["width 64", "width 256"]


def test_split_charts_give_advice_on_their_own_metric_only(tmp_path: Path) -> None:
    waiting = next(panel for panel in OPERATION if panel.title == "Who waits")
    two = group_runs([read_run(online(tmp_path / f"b{n}", **{"online.planners": n}).path) for n in (1, 2)])
    charts = {chart.title: chart.advice for chart in panel_charts(waiting, two)}
    assert "the learner is the limit" in charts["Who waits: rollouts wait"]
    assert "planning is the limit" not in charts["Who waits: rollouts wait"]
    assert "planning is the limit" in charts["Who waits: planner computes"]


def test_histograms_count_every_episode_that_was_not_cut_once(tmp_path: Path) -> None:
    (group,) = group_runs([read_run(online(tmp_path / "a", 0).path), read_run(online(tmp_path / "b", 1).path)])
    explored = explored_by(group)
    assert explored.cut == 2
    windows = windows_of(explored, 4)
    assert sum(len(returns) for _, _, returns in windows) == len(explored.returns) == 58
    for low, high, returns in windows:
        plain = [r for s, r in zip(explored.steps, explored.returns, strict=True) if low < s <= high]
        np.testing.assert_array_equal(np.sort(returns), np.sort(plain))
    page = render(Contents([group]))
    counts = [chart["series"][0]["y"] for chart in data_of(page)["exploration"]["charts"]]
    assert sum(count for each in counts for count in each if count) == 58


def test_the_page_is_one_file(tmp_path: Path) -> None:
    page = page_of(online(tmp_path / "run"))
    assert f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">' in page
    assert "default-src 'none'" in POLICY
    markup = re.sub(r"<(script|style|pre)\b.*?</\1>|<!--.*?-->", "", page, flags=re.S)
    assert re.findall(r'(?:src|href)="(?!#|data:)([^"]*)"', markup) == []
    assert "@import" not in page
    assert "url(" not in page


def test_names_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    nasty = "</script><b>x&amp;"
    run = online(tmp_path / "run", **{"data.dataset": nasty, "logging.wandb_project": nasty})
    other = online(tmp_path / "other", **{"data.dataset": "plain"})
    page = page_of(run, other)
    assert nasty not in page
    assert data_of(page)["learning-curves"]["charts"][0]["series"][0]["label"] in ("script><b>x&amp;", nasty)


def test_section_data_must_be_finite_and_titles_differ() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        Section("a", "", data={"x": float("nan")}).body()
    with pytest.raises(ValueError, match="share a title"):
        document("t", "", [Section("A b", ""), Section("a-b", "")])


def test_scripts_and_styles_of_several_sections_are_embedded_once() -> None:
    parts = [Section(name, "", ["let shared = 1;"], [".shared {}"]) for name in ("a", "b")]
    page = document("t", "", parts)
    assert page.count("let shared = 1;") == page.count(".shared {}") == 1


def test_numbers_on_a_logarithmic_axis_and_values_that_are_not_finite() -> None:
    series = Drawn("s", 0, [0.0], [None], of=0)
    charts = Charts("A title")
    page = charts.section(charts.html([Chart("c", "says", "x", "y", [series], height=7)])).body()
    assert 'data-from="data-a-title" data-chart="0"' in page
    specification = charts.drawn[0].specification()
    assert specification["series"] == [{"label": "s", "colour": 0, "x": [0.0], "y": [None], "of": 0}]
    assert specification["height"] == 7


def test_advice_is_what_the_metrics_page_says() -> None:
    tables = sections()
    for section, words in ADVICE.items():
        said = {re.findall(r"`([^`]+)`", row[0])[0]: row[2] for row in tables[section]}
        for name, text in words.items():
            assert said[name] == text, (section, name)
    for panel in (*LOSSES, *OPERATION):
        assert advice(*panel.advice).endswith(".")


def test_uplot_is_what_its_makers_published_with_its_license() -> None:
    assert hashlib.sha256(asset("uPlot.iife.min.js").encode()).hexdigest() == UPLOT
    assert asset("uPlot.LICENSE").startswith("The MIT License")
    assert "Leon Sorokin" in document("t", "", [])


def test_the_commands_make_the_same_runs(tmp_path: Path) -> None:
    source = pretrained(tmp_path / "pre", 3)
    words = shlex.split(again(read_run(source.path)))
    assert words[:2] == ["m3pc", "pretrain"]
    assert load_config(words[words.index("--config") + 1], {}) == source.config()

    config = finetune_config(source, {"online.steps": "2000", "seed": "7"})
    run = online(tmp_path / "online", 7)
    run.write_config(config)
    run.write_summary({"source": str(source.path), "serial": True})
    words = shlex.split(again(read_run(run.path)))
    assert words[:2] == ["m3pc", "finetune"]
    import argparse

    parser = argparse.ArgumentParser()
    add_finetune_arguments(parser)
    given = parser.parse_args(words[2:])
    assert given.serial
    assert finetune_config(source, given_settings(given.config)) == config
    assert given.run == str(source.path)


def test_durations() -> None:
    assert [duration(seconds) for seconds in (45, 840, 26_000)] == ["45 s", "14 min", "7 h 13 min"]
