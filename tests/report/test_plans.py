"""The plan viewer's section: what a page decodes is what was recorded, and what a broken record is told."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3pc_ray.agent import Agent
from m3pc_ray.errors import UserError
from m3pc_ray.evaluation.record_plans import Kept, record_plans
from m3pc_ray.report.plans import section as section_module
from m3pc_ray.report.plans.packing import Scales, packed_bytes
from m3pc_ray.report.plans.page import write_page
from m3pc_ray.report.plans.record import PlanRecord, read_plan_record
from m3pc_ray.report.plans.section import BANDS, choose_lines, errors, plan_section
from tests.tiny_run import make_tiny_run

NUMBER = 40


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plans")
    agent = Agent.load(make_tiny_run(folder / "run").path, planner="critic", num_candidates=NUMBER)
    recorded = record_plans(agent, folder / "record.npz", 3, Kept(every=2), deterministic=False, about={"run": "r"})
    assert recorded.warnings == []
    return folder / "record.npz"


@pytest.fixture(scope="module")
def record(path: Path) -> PlanRecord:
    return read_plan_record(path)


def scales(ranges: list[list[float]]) -> Scales:
    return Scales(*np.array(ranges).T)


def test_numbers_survive_packing_to_a_step_of_their_range() -> None:
    seed = int(np.random.default_rng().integers(2**31))
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(7, 5, 3)) * [1e-3, 1.0, 1e5]
    values[2, 1, 0] = np.nan
    found = Scales.of(values, values[:2] * 2)
    text = found.pack(values)
    assert len(text) == packed_bytes(values.size)
    again = found.unpack(text).reshape(values.shape)
    limit = (found.high - found.low) / 65534 / 2 * 1.001
    assert (np.abs(again - values)[~np.isnan(values)] <= np.broadcast_to(limit, values.shape)[~np.isnan(values)]).all()
    np.testing.assert_array_equal(np.isnan(again), np.isnan(values), err_msg=f"seed {seed}")
    assert Scales.of(np.full((2, 1), np.nan)).ranges() == [[0.0, 1.0]]
    assert Scales.of(np.full((2, 1), 4.0)).ranges() == [[4.0, 5.0]], "a constant has a range too"


def test_lines_are_the_best_the_worst_some_others_and_the_chosen_one() -> None:
    utilities = np.random.default_rng(0).permutation(100).astype(np.float32)
    chosen = int(np.flatnonzero(utilities == 50)[0])
    drawn = choose_lines(utilities, 12, chosen, seed=1)
    values = utilities[drawn]
    assert values.tolist() == sorted(values)
    assert values[:4].tolist() == [0, 1, 2, 3]
    assert values[-4:].tolist() == [96, 97, 98, 99]
    assert 50 in values
    assert len(drawn) in (12, 13)
    np.testing.assert_array_equal(choose_lines(utilities, 12, chosen, seed=1), drawn)
    assert len(choose_lines(utilities[:5], 12, 3, seed=1)) == 5, "all there are"


def test_errors_are_root_mean_squares_in_standard_deviations() -> None:
    planned = np.array([[1.0, 4.0], [0.0, 0.0], [0.0, 0.0]])
    real = np.array([[0.0, 0.0], [0.0, 0.0], [np.nan, 0.0]])
    assert errors(planned, real, np.array([1.0, 2.0])) == [pytest.approx(np.sqrt((1 + 4) / 2), abs=1e-5), 0.0, None]


def test_the_page_holds_what_was_recorded(record: PlanRecord) -> None:
    section, left_out = plan_section(record)
    data: dict[str, Any] = json.loads(json.dumps(section.data, allow_nan=False))
    assert f"24 of {NUMBER} candidates" in left_out
    assert [moment["step"] for moment in data["moments"]] == record["steps"].tolist()
    states, actions = scales(data["states"]["ranges"]), scales(data["actions"]["ranges"])
    near = (states.high - states.low).max() / 60_000
    np.testing.assert_allclose(states.unpack(data["episode"]["states"]), record["observations"], atol=near)
    rewards = scales(data["episode"]["rewardRange"]).unpack(data["episode"]["rewards"])[:, 0]
    np.testing.assert_allclose(rewards, record["rewards"], atol=1e-3)
    for row, moment in enumerate(data["moments"]):
        horizon, lines = record["horizons"][row], moment["lines"]
        assert moment["chosen"] in lines
        shape = (len(lines), horizon - 1, -1)
        drawn = states.unpack(moment["states"]).reshape(shape)
        np.testing.assert_allclose(drawn, record["states"][row, lines, : horizon - 1], atol=near)
        taken = actions.unpack(moment["actions"]).reshape(len(lines), horizon, -1)
        np.testing.assert_allclose(taken, record["candidates"][row, lines, :horizon], atol=1e-4)
        np.testing.assert_allclose(moment["utilities"], record["utilities"][row, lines], rtol=1e-4)
        assert moment["utilities"] == sorted(moment["utilities"])
        bands = states.unpack(moment["stateBands"]).reshape(len(BANDS), horizon - 1, -1)
        middle = np.median(record["states"][row, :, : horizon - 1], axis=0)
        np.testing.assert_allclose(bands[BANDS.index(50)], middle, atol=near)
        assert sum(moment["counts"]) == NUMBER
        assert sum(moment["mass"]) == pytest.approx(1.0, abs=1e-3)
        step = record["steps"][row]
        after = record["observations"][step + 1]
        expected = np.sqrt(np.mean(((record["planned_states"][row, 0] - after) / record["states_std"]) ** 2))
        assert moment["error"][0] == pytest.approx(expected, rel=1e-3)
        assert moment["carriedError"][0] == moment["error"][0], "the first action is the one that was played"
    bodies = scales(data["bodies"]["ranges"]).unpack(data["bodies"]["packed"][0])
    assert bodies.shape == (2 * 8 * len(data["bodies"]["radii"]) * 2, 2)


def test_fewer_lines_where_the_page_would_grow_too_large(record: PlanRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = plan_section(record)
    size = len(json.dumps(whole.data))
    monkeypatch.setattr(section_module, "BUDGET", size // 2)
    section, left_out = plan_section(record)
    lines = len(section.data["moments"][0]["lines"])
    assert lines < 24
    assert re.search(r"lines for (\d+) of", left_out).group(1) in (str(lines), str(lines - 1))  # type: ignore[union-attr]
    assert len(json.dumps(section.data)) < 0.8 * size


def test_the_page_is_one_file_that_fetches_nothing(path: Path, tmp_path: Path) -> None:
    write_page(path, tmp_path / "new" / "page.html")
    text = (tmp_path / "new" / "page.html").read_text()
    addresses = set(re.findall(r"https?://[^\"' ]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}, "a namespace, which nobody fetches"
    assert 'id="data-plans"' in text
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the page"):
        write_page(path, tmp_path / "file" / "page.html")


def test_broken_records_are_named(path: Path, tmp_path: Path) -> None:
    with np.load(path) as file:
        good = {name: file[name] for name in file.files}
    about = json.loads(str(good["about"]))

    def says(message: str, **changes: Any) -> None:
        target = tmp_path / "broken.npz"
        arrays = {name: value for name, value in {**good, **changes}.items() if value is not None}
        np.savez(target, **arrays)
        with pytest.raises(UserError, match=message) as error:
            read_plan_record(target)
        assert "broken.npz" in str(error.value)

    says("has format 9", about=np.array(json.dumps({**about, "format": 9})))
    says("lacks `about`", about=None)
    says("says nothing of planner", about=np.array(json.dumps({k: v for k, v in about.items() if k != "planner"})))
    says("lacks the array planned", planned=None)
    says("utilities has shape", utilities=good["utilities"][:, 1:])
    says("one that the episode has not", steps=good["steps"] + 10_000)
    says("names 1 states; there are 11", about=np.array(json.dumps({**about, "state_names": ["x"]})))
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(UserError, match="is no record of m3pc plan"):
        read_plan_record(tmp_path / "text.npz")
    with pytest.raises(UserError, match="cannot be read"):
        read_plan_record(tmp_path / "missing.npz")


def test_a_horizon_of_one_step_has_actions_and_no_predicted_states(tmp_path: Path) -> None:
    agent = Agent.load(make_tiny_run(tmp_path / "run").path, planner="critic", context_length=7)
    record_plans(agent, tmp_path / "record.npz", 3, Kept(every=7), about={})
    record = read_plan_record(tmp_path / "record.npz")
    assert record["horizons"].tolist()[:2] == [8, 1]
    section, _ = plan_section(record)
    last = section.data["moments"][1]
    assert (last["horizon"], last["error"], last["states"]) == (1, [], "")
    write_page(tmp_path / "record.npz", tmp_path / "page.html")
