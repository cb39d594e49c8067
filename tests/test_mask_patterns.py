"""Mask patterns: the language against sets written out, the built-in ones against their functions, every mistake."""

from __future__ import annotations

from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3pc_ray.configuration import read_patterns_file, shipped_configs
from m3pc_ray.errors import UserError
from m3pc_ray.mask_patterns import MODALITIES, MaskPattern, parse_patterns
from m3pc_ray.model import masks

T = 8


def pattern(**described: Any) -> MaskPattern:
    return parse_patterns({"mine": described}, "file.yaml")["mine"]


def shown(steps: Any, t: int = 3, goals: list[int] | None = None, length: int = T) -> set[int]:
    """The steps of states that are visible; rewards are shown so that there is always something."""
    mask = pattern(states=steps, rewards="all").visible(length, t, goals)
    return set(np.flatnonzero(mask[masks.STATES]).tolist())


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ("all", range(8)),
        ("none", ()),
        ("t", [3]),
        ("t-1", [2]),
        ("t + 2", [5]),
        ("t-9", ()),
        ("last", [7]),
        ("last-1", [6]),
        (0, [0]),
        ("5", [5]),
        ("<= t", [0, 1, 2, 3]),
        ("<t", [0, 1, 2]),
        ("< t-1", [0, 1]),
        ("< t - 9", ()),
        ("> t", [4, 5, 6, 7]),
        (">= t+2", [5, 6, 7]),
        ("> last", ()),
        ("<= 1", [0, 1]),
        ("t-1 .. t+1", [2, 3, 4]),
        ("t-9..t", [0, 1, 2, 3]),
        ("t .. last", [3, 4, 5, 6, 7]),
        (["< t", "last", 5], [0, 1, 2, 5, 7]),
        ([["t"], ["last", "t"]], [3, 7]),
        ("goals", [5, 6]),
        ("last goal", [6]),
    ],
)
def test_steps_mean_what_they_say(steps: Any, expected: Any) -> None:
    assert shown(steps, goals=[5, 6]) == set(expected)


@given(
    st.sampled_from(["<", "<=", ">", ">="]), st.sampled_from(["t", "last"]), st.integers(-4, 4), st.integers(2, 12),
    st.data(),
)  # fmt: skip
def test_comparisons_are_those_of_python(sign: str, anchor: str, offset: int, length: int, data: st.DataObject) -> None:
    t = data.draw(st.integers(0, length - 1))
    holds = {"<": int.__lt__, "<=": int.__le__, ">": int.__gt__, ">=": int.__ge__}[sign]
    bound = (t if anchor == "t" else length - 1) + offset
    expected = {step for step in range(length) if holds(step, bound)}
    assert shown(f"{sign} {anchor}{offset:+d}", t, length=length) == expected


def test_built_in_patterns_are_the_masks_that_planning_uses() -> None:
    tree = read_patterns_file("masks/patterns/built_in")
    built_in = parse_patterns(tree, "built_in.yaml")
    assert set(built_in) == {*masks.TEST_MASKS, "goal_with_history"}
    for length in (2, 3, 5, 8):
        for t in range(length):
            later = range(min(t + 1, length - 1), length)
            for goals in chain.from_iterable(combinations(later, count) for count in range(1, len(later) + 1)):
                for name, found in built_in.items():
                    function, history = ("goal", True) if name == "goal_with_history" else (name, False)
                    expected = masks.make_test_mask(function, length, t, goals, history)
                    np.testing.assert_array_equal(
                        found.visible(length, t, goals), expected, f"{name} {length} {t} {goals}"
                    )


def test_built_in_patterns_ask_for_what_the_table_says() -> None:
    built_in = parse_patterns(read_patterns_file("masks/patterns/built_in"), "built_in.yaml")

    def asked(name: str, t: int) -> dict[str, list[int]]:
        hidden = built_in[name].asked(T, t) & ~built_in[name].visible(T, t)
        return {key: np.flatnonzero(row).tolist() for key, row in zip(MODALITIES, hidden, strict=True) if row.any()}

    assert asked("return_conditioned", 5) == {"actions": [5, 6, 7]}
    assert asked("forward_dynamics", 6) == {"states": [7], "returns": [6, 7], "rewards": [6, 7]}
    assert asked("forward_dynamics", 7) == {"returns": [7], "rewards": [7]}
    assert asked("reward_prediction", 6) == {"returns": [6, 7], "rewards": [6, 7]}
    assert asked("inverse_dynamics", 6) == {"actions": [6, 7]}
    assert asked("path_inpainting", 3) == {"states": [4, 5, 6]}
    assert asked("goal", 3) == asked("behaviour_cloning", 3) == asked("goal_with_history", 3) == {"actions": [3]}


@pytest.mark.parametrize(
    "path", sorted((shipped_configs() / "masks/patterns").glob("*.yaml")), ids=lambda path: path.stem
)
def test_shipped_patterns_fit_every_window(path: Path) -> None:
    for found in parse_patterns(read_patterns_file(path), str(path)).values():
        assert found.about
        assert [found.problem(length) for length in (3, 8, 64)] == [None] * 3  # of 2 steps, none lies before a goal


def test_without_asked_everything_hidden_is_asked_for() -> None:
    mine = pattern(states="<= t")
    assert mine.asked(T, 3).all()


def test_random_shares_keep_so_many_of_those_steps() -> None:
    mine = pattern(states={"random": [0.25, 0.75], "of": "< 4"}, actions={"random": 0.5}, rewards="t")
    rng = np.random.default_rng(0)
    drawn = np.stack([mine.visible(T, 7, rng=rng) for _ in range(4000)])
    counts = drawn[:, masks.STATES].sum(1)
    assert set(counts) == {1, 3}
    assert 0.47 < (counts == 1).mean() < 0.53
    assert not drawn[:, masks.STATES, 4:].any()
    assert (drawn[:, masks.ACTIONS].sum(1) == 4).all()
    np.testing.assert_allclose(drawn[:, masks.STATES, :4].mean(0), 0.5, atol=0.04)
    np.testing.assert_allclose(drawn[:, masks.ACTIONS].mean(0), 0.5, atol=0.04)
    with pytest.raises(ValueError, match="random generator"):
        mine.visible(T, 7)


def test_a_random_mask_that_shows_nothing_is_drawn_again() -> None:
    mine = pattern(states={"random": [0, 0.5]}, asked={"actions": "t"})
    assert mine.problem(T) is None
    rng = np.random.default_rng(0)
    assert {int(mine.visible(T, 0, rng=rng).sum()) for _ in range(50)} == {4}


@pytest.mark.parametrize(
    ("described", "problem"),
    [
        ({"states": "< t"}, "mine: shows nothing at t = 0; a mask must show a token at every t from 0 to 7"),
        ({"actions": "> t"}, "mine: shows nothing at t = 7"),
        ({"states": {"random": 0.1, "of": "<= 3"}}, "mine: shows nothing at t = 0"),
        ({"states": [0, 9]}, "mine: states: step 9 is outside the window of 8 steps, 0 to 7"),
        ({"states": "t", "asked": {"actions": "8"}}, "mine: actions: step 8 is outside"),
        ({"states": "all", "asked": {"states": "> t"}}, "mine: asked: everything asked for is visible"),
        ({"states": "t", "asked": {"actions": "none"}}, "mine: asked: everything asked for is visible"),
    ],
)
def test_what_does_not_fit_the_window_is_named(described: dict[str, Any], problem: str) -> None:
    assert (pattern(**described).problem(8) or "").startswith(problem)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"Mine": {"states": "all"}}, "file.yaml: Mine: a pattern's name is lower-case letters"),
        ({3: {"states": "all"}}, "file.yaml: 3: a pattern's name"),
        ({"mine": "all"}, "file.yaml: mine: must be a mapping with some of about, weight, states"),
        ({"mine": {}}, "file.yaml: mine: shows nothing; say which steps of states, returns"),
        ({"mine": {"state": "all"}}, "file.yaml: mine: state: no such key; did you mean states?"),
        ({"mine": {"xyz": "all"}}, "file.yaml: mine: xyz: no such key; there are: about, weight"),
        ({"mine": {"states": "=< t"}}, "file.yaml: mine: states: must be all, none, t, t-1, last, a number, '<= t'"),
        ({"mine": {"states": None}}, "mine: states: must be all, none, .* not nothing"),
        ({"mine": {"states": True}}, "mine: states: must be all, none, .* not True"),
        ({"mine": {"states": 1.5}}, "mine: states: must be all, none, .* not 1.5"),
        ({"mine": {"states": -1}}, "mine: states: must be all, none, .* not -1"),
        ({"mine": {"states": []}}, r"mine: states: must be all, none, .* not \[\]"),
        ({"mine": {"states": ["t", "u"]}}, "mine: states: must be all, none, .* not 'u'"),
        ({"mine": {"states": "3+1"}}, r"mine: states: must be .* not '3\+1'"),
        ({"mine": {"states": "t .. "}}, "mine: states: must be"),
        ({"mine": {"states": "t+1 .. t-1"}}, "mine: states: 't.1 .. t-1' ends before it starts"),
        ({"mine": {"states": {"random": 2}}}, r"mine: states: random: must be a share in \[0, 1\]"),
        ({"mine": {"states": {"of": "t"}}}, "mine: states: random: must be a share .* not nothing"),
        ({"mine": {"states": {"random": 0.5, "off": "t"}}}, "mine: states: off: no such key; did you mean of?"),
        ({"mine": {"states": {"random": 0.5, "of": {"random": 1}}}}, "mine: states: of: cannot be random itself"),
        ({"mine": {"states": "t", "asked": "all"}}, "mine: asked: must be a mapping such as {actions"),
        ({"mine": {"states": "t", "asked": {}}}, "mine: asked: must be a mapping"),
        (
            {"mine": {"states": "t", "asked": {"action": "t"}}},
            "mine: asked: action: no such key; did you mean actions?",
        ),
        ({"mine": {"states": "t", "asked": {"actions": "x"}}}, "mine: asked: actions: must be all"),
        (
            {"mine": {"states": "t", "asked": {"actions": {"random": 0.5}}}},
            "mine: asked: actions: what is asked for can",
        ),
        ({"mine": {"states": "t", "weight": -1}}, r"mine: weight: must be a number in \[0, inf\), not -1"),
        ({"mine": {"states": "t", "weight": "much"}}, "mine: weight: must be a number"),
        ({"mine": {"states": "t", "weight": None}}, "mine: weight: missing"),
        ({"mine": {"states": "t", "about": 3}}, "mine: about: must be text, not 3"),
    ],
)
def test_every_mistake_is_one_line_that_says_where(tree: dict[Any, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse_patterns(tree, "file.yaml")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("file.yaml: ")
