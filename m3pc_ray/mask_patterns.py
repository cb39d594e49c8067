"""Mask patterns as data: what a mask shows and what it asks for, read from YAML (docs/masks.md).

    state_forecast:
      about: where the state goes when nobody says what is done
      weight: 0.2
      states: "<= t"
      asked: {states: "> t"}

A pattern says for each modality which steps of the window of T steps are visible. `t` is the current step, steps count
from 0, and what is not named is hidden. `configs/masks/patterns/built_in.yaml` has the built-in masks in this form.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from m3pc_ray.errors import UserError

Mask = NDArray[np.bool_]
"""(4, T), rows in the order of `MODALITIES`, True where a token is visible (or asked for)."""

MODALITIES = ("states", "returns", "actions", "rewards")
KEYS = ("about", "weight", *MODALITIES, "asked")

ALLOWED = (
    "all, none, t, t-1, last, a number, '<= t' (also <, >=, >), 't .. t+2', goals, last goal, a list of these, or "
    "{random: SHARE, of: STEPS}"
)
"""What a user may write for a set of steps."""

_ENDPOINT = re.compile(r"(?P<number>\d+)|(?P<anchor>t|last)(?:\s*(?P<sign>[+-])\s*(?P<offset>\d+))?")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Endpoint:
    """A step of the window: `offset` steps after the window's start, the current step or the window's last step."""

    anchor: Literal["start", "t", "last"]
    offset: int

    def step(self, length: int, t: int) -> int:
        """Its index, which may lie outside the window."""
        return {"start": 0, "t": t, "last": length - 1}[self.anchor] + self.offset


@dataclass(frozen=True)
class Span:
    """All steps from `first` to `last`, those outside the window left out."""

    first: Endpoint
    last: Endpoint


@dataclass(frozen=True)
class Goals:
    """The steps of the goals; with `only_last` the last of them."""

    only_last: bool


@dataclass(frozen=True)
class RandomShare:
    """One of `shares`, each as likely, of the steps `of`, drawn without replacement."""

    shares: tuple[float, ...]
    of: Steps


Steps = tuple[Span | Goals | RandomShare, ...]
"""A union of sets of steps."""

START, CURRENT, LAST = Endpoint("start", 0), Endpoint("t", 0), Endpoint("last", 0)


@dataclass(frozen=True)
class MaskPattern:
    """One mask for every window length T and current step t."""

    name: str
    about: str
    """One line for tables and pictures."""
    weight: float | None
    """Share among the test-time masks of training; None where the user gave none."""
    shown: tuple[Steps, ...]
    """Visible steps of each of `MODALITIES`."""
    asked_for: tuple[Steps, ...]
    """Steps of each modality that it is asked for, as far as they are hidden."""

    @property
    def is_random(self) -> bool:
        """Whether `visible` differs from draw to draw."""
        return any(isinstance(term, RandomShare) for steps in self.shown for term in steps)

    @property
    def uses_goals(self) -> bool:
        """Whether what is visible depends on where the goals are."""
        return any(isinstance(term, Goals) for steps in self.shown for term in steps)

    def visible(
        self,
        length: int,
        t: int,
        goals: Sequence[int] | None = None,
        rng: np.random.Generator | None = None,
    ) -> Mask:
        """What is visible, (4, length). A random mask that would show nothing is drawn again.

        Args:
            length: T.
            t: index of the current step.
            goals: steps of the goals; None: the last one of the window.
            rng: of random patterns.

        Raises:
            ValueError: nothing can be visible at t (`problem` says so beforehand), or a random pattern has no `rng`.
        """
        steps = [length - 1] if goals is None else list(goals)
        while True:
            mask = _stack(self.shown, length, t, steps, rng)
            if mask.any():
                return mask
            if not _stack(self.shown, length, t, steps, "most").any():
                raise ValueError(f"{self.name} shows nothing at t = {t} of {length} steps")

    def asked(self, length: int, t: int, goals: Sequence[int] | None = None) -> Mask:
        """What is asked for, (4, length); tokens that are visible as well are no question."""
        return _stack(self.asked_for, length, t, [length - 1] if goals is None else list(goals), None)

    def problem(self, length: int) -> str | None:
        """Why the pattern does not fit a window of `length` steps, starting with its name; None if it does."""
        for name, steps in (*zip(MODALITIES, self.shown, strict=True), *zip(MODALITIES, self.asked_for, strict=True)):
            for step in _numbers(steps):
                if step >= length:
                    return (
                        f"{self.name}: {name}: step {step} is outside the window of {length} steps, 0 to {length - 1}"
                    )
        questions = 0
        for t in range(length):
            goals = [length - 1]
            if not _stack(self.shown, length, t, goals, "most").any():
                return (
                    f"{self.name}: shows nothing at t = {t}; a mask must show a token at every t from 0 to {length - 1}"
                )
            questions += int((self.asked(length, t) & ~_stack(self.shown, length, t, goals, "least")).sum())
        if not questions:
            return f"{self.name}: asked: everything asked for is visible, at every t; ask for something hidden"
        return None


def parse_patterns(tree: Mapping[Any, Any], source: str, weights_needed: bool = False) -> dict[str, MaskPattern]:
    """The patterns of a YAML mapping, name -> what it shows, by name.

    Args:
        tree: as YAML gives it.
        source: file or setting, named in errors.
        weights_needed: whether a pattern must say its `weight`, as one to train with must.

    Raises:
        UserError: one line that names source, pattern and key, and what is allowed there.
    """
    return {name: _pattern(name, described, source, weights_needed) for name, described in tree.items()}


def _pattern(name: Any, described: Any, source: str, weights_needed: bool) -> MaskPattern:
    where = f"{source}: {name}"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(f"{where}: a pattern's name is lower-case letters, digits and _, such as state_forecast")
    if not isinstance(described, Mapping):
        raise UserError(f"{where}: must be a mapping with some of {', '.join(KEYS)}, not {_shown(described)}")
    _check_keys(described, KEYS, where)
    if not any(modality in described for modality in MODALITIES):
        raise UserError(f"{where}: shows nothing; say which steps of {', '.join(MODALITIES)} are visible")
    about = described.get("about", "")
    if not isinstance(about, str):
        raise UserError(f"{where}: about: must be text, not {_shown(about)}")
    weight = described.get("weight")
    if weight is None and (weights_needed or "weight" in described):
        raise UserError(
            f"{where}: weight: missing; give its share among the test-time masks, such as 0.2 (0: its errors are "
            "measured, it is not trained with)"
        )
    if weight is not None and not (_is_number(weight) and 0 <= weight < math.inf):
        raise UserError(f"{where}: weight: must be a number in [0, inf), not {_shown(weight)}")
    questions = described.get("asked", dict.fromkeys(MODALITIES, "all"))
    if not isinstance(questions, Mapping) or not questions:
        raise UserError(
            f"{where}: asked: must be a mapping such as {{actions: '>= t'}}, not {_shown(questions)}; without it, all "
            "that is hidden is asked for"
        )
    _check_keys(questions, MODALITIES, f"{where}: asked")
    shown = tuple(_steps(described.get(key, "none"), f"{where}: {key}") for key in MODALITIES)
    asked_for = tuple(_steps(questions.get(key, "none"), f"{where}: asked: {key}") for key in MODALITIES)
    for key, steps in zip(MODALITIES, asked_for, strict=True):
        if any(isinstance(term, RandomShare) for term in steps):
            raise UserError(f"{where}: asked: {key}: what is asked for cannot be random; name the steps")
    return MaskPattern(name, about, None if weight is None else float(weight), shown, asked_for)


def _check_keys(mapping: Mapping[Any, Any], allowed: Sequence[str], where: str) -> None:
    for key in mapping:
        if key not in allowed:
            close = difflib.get_close_matches(str(key), allowed, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(allowed)}"
            raise UserError(f"{where}: {key}: no such key; {hint}")


def _steps(value: Any, where: str) -> Steps:
    """A set of steps as the user wrote it."""
    wrong = UserError(f"{where}: must be {ALLOWED}, not {_shown(value)}")
    if isinstance(value, list):
        if not value:
            raise wrong
        return tuple(term for part in value for term in _steps(part, where))
    if isinstance(value, Mapping):
        return (_random_share(value, where),)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise wrong
    text = " ".join(str(value).split())
    if text == "none":
        return ()
    if text == "all":
        return (Span(START, LAST),)
    if text in ("goals", "last goal"):
        return (Goals(only_last=text == "last goal"),)
    compared = re.fullmatch(r"(<=|<|>=|>)\s*(.+)", text)
    if compared:
        sign, end = compared[1], _endpoint(compared[2], wrong)
        if sign.startswith("<"):
            return (Span(START, Endpoint(end.anchor, end.offset - (sign == "<"))),)
        return (Span(Endpoint(end.anchor, end.offset + (sign == ">")), LAST),)
    first, dots, last = text.partition("..")
    start = _endpoint(first.strip(), wrong)
    end = _endpoint(last.strip(), wrong) if dots else start
    if start.anchor == end.anchor and start.offset > end.offset:
        raise UserError(f"{where}: {value!r} ends before it starts")
    return (Span(start, end),)


def _endpoint(text: str, wrong: UserError) -> Endpoint:
    found = _ENDPOINT.fullmatch(text)
    if not found:
        raise wrong
    if found["number"]:
        return Endpoint("start", int(found["number"]))
    offset = int(found["offset"] or 0)
    return Endpoint("t" if found["anchor"] == "t" else "last", -offset if found["sign"] == "-" else offset)


def _random_share(described: Mapping[Any, Any], where: str) -> RandomShare:
    _check_keys(described, ("random", "of"), where)
    given = described.get("random")
    shares: list[Any] = given if isinstance(given, list) else [given]
    if not shares or not all(_is_number(share) and 0 <= share <= 1 for share in shares):
        raise UserError(f"{where}: random: must be a share in [0, 1] or a list of such, not {_shown(given)}")
    of = _steps(described.get("of", "all"), f"{where}: of")
    if any(isinstance(term, RandomShare) for term in of):
        raise UserError(f"{where}: of: cannot be random itself; name the steps to choose from")
    return RandomShare(tuple(float(share) for share in shares), of)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)


def _numbers(steps: Steps) -> Iterator[int]:
    """Steps that were named by their number; comparisons with one may reach one beyond it."""
    for term in steps:
        if isinstance(term, RandomShare):
            yield from _numbers(term.of)
        elif isinstance(term, Span):
            yield from (end.offset for end in (term.first, term.last) if end.anchor == "start")


Chance = np.random.Generator | Literal["most", "least"] | None
"""How random shares are decided: drawn, all that can be visible, or none. None: there must not be any."""


def _stack(modalities: Iterable[Steps], length: int, t: int, goals: Sequence[int], chance: Chance) -> Mask:
    return np.stack([_row(steps, length, t, goals, chance) for steps in modalities])


def _row(steps: Steps, length: int, t: int, goals: Sequence[int], chance: Chance) -> NDArray[np.bool_]:
    """(length,): the union of `steps`."""
    row = np.zeros(length, dtype=bool)
    for term in steps:
        if isinstance(term, Span):
            row[max(0, term.first.step(length, t)) : max(0, term.last.step(length, t) + 1)] = True
        elif isinstance(term, Goals):
            row[[max(goals)] if term.only_last else list(goals)] = True
        else:
            row[_chosen(term, np.flatnonzero(_row(term.of, length, t, goals, None)), chance)] = True
    return row


def _chosen(term: RandomShare, among: NDArray[np.intp], chance: Chance) -> NDArray[np.intp]:
    if chance is None:
        raise ValueError("a random pattern needs a random generator")
    if isinstance(chance, str):
        possible = chance == "most" and round(max(term.shares) * len(among)) > 0
        return among if possible else among[:0]
    kept = round(float(chance.choice(term.shares)) * len(among))
    return among[chance.permutation(len(among))[:kept]]
