"""`m3pc masks`: text, picture, JSON, errors of a run, and what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m3pc_ray.cli import main
from m3pc_ray.configuration import load_config, with_settings
from m3pc_ray.report.masks import CELL_COLOURS, MaskDrawing, MaskPanel, mask_figure, mask_text
from m3pc_ray.training.run_folder import RunFolder
from m3pc_ray.trajectories.store import write_store
from tests.tiny_run import make_tiny_run, random_hopper_episodes

TEXT = "mine: {about: 'my own, for $1 or $\\foo$', states: '<= t', asked: {states: '> t'}}\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("masks")
    trajectories = random_hopper_episodes()
    write_store(trajectories, folder / "data")
    run = make_tiny_run(folder / "run", trajectories=trajectories)
    trained = {"trained": {"weight": 1, "actions": "all", "asked": {"states": "t", "rewards": "last"}}}
    settings = {"data.dataset": str(folder / "data"), "masks.patterns": trained}
    run.write_config(with_settings(load_config(run.config_path), settings))
    return run


def rows_of(path: Path, kind: str) -> list[dict]:
    return [row for row in json.loads(path.read_text())["rows"] if row["kind"] == kind]


def test_every_pattern_is_printed_drawn_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text(TEXT)
    words = ["masks", "--patterns", str(tmp_path / "mine.yaml"), "--t", "3", "--segment-length", "6"]
    assert main([*words, "--out", str(tmp_path / "pictures"), "--json", str(tmp_path / "masks.json")]) == 0
    printed = capsys.readouterr().out
    (start,) = [number for number, line in enumerate(printed.splitlines()) if line.startswith("mine")]
    block = [line.split() for line in printed.splitlines()[start + 1 : start + 6]]
    assert block[0] == ["0", "1", "2", "t", "4", "5"]
    assert block[1] == ["states", *"■■■■??"]
    assert block[3] == ["actions", *"······"]
    assert "★" in printed
    assert max(len(line) for line in printed.splitlines() if not line.startswith("picture: ")) <= 80
    rows = rows_of(tmp_path / "masks.json", "mask")
    assert len(rows) == 9
    assert rows[-1]["visible"] == {"states": [0, 1, 2, 3], "returns": [], "actions": [], "rewards": []}
    assert rows[-1]["asked"] == {"states": [4, 5], "returns": [], "actions": [], "rewards": []}
    with Image.open(tmp_path / "pictures/masks.png") as picture:
        assert picture.width > 600


def test_errors_of_a_run(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text(TEXT)
    words = ["masks", "--patterns", str(tmp_path / "mine.yaml"), "--run", str(run.path), "--out", str(tmp_path)]
    assert main([*words, "--t", "2", "5", "--json", str(tmp_path / "errors.json")]) == 0
    rows = rows_of(tmp_path / "errors.json", "error")
    found = {(row["pattern"], row["asked"], row["t"]): row for row in rows}
    assert found["mine", "states", 2]["steps"] == [3, 4, 5, 6, 7]
    assert found["trained", "states", 5]["steps"] == [5]
    assert found["trained", "rewards", 5]["source"] == "run"
    assert len(rows) == 2 * (11 + 2 + 1)
    for row in rows:
        assert np.mean(row["error_by_step"]) == pytest.approx(row["error"], rel=1e-5)
        assert row["error"] > 0
    printed = capsys.readouterr().out
    assert "errors of what is asked for, on" in printed
    assert "goal_with_history" in printed
    assert max(len(line) for line in printed.splitlines() if not line.startswith("picture: ")) <= 80


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--patterns", "missing.yaml"], "missing.yaml: no such configuration file"),
        (["--patterns", "."], ".: no such configuration file"),
        (["--patterns", "BAD"], "mine: states: must be all, none"),
        (["--patterns", "UNQUOTED"], "line 2 not valid YAML"),
        (["--patterns", "UNQUOTED"], "a comparison needs quotes: states: '> t'"),
        (["--patterns", "EMPTY_AT_0"], "mine: shows nothing at t = 0"),
        (["--t", "8"], "--t is 8; a window of 8 steps has 0 to 7"),
        (["--t", "-1"], "--t is -1"),
        (["--segment-length", "1"], "--segment-length is 1; it must be in [2, 64]"),
        (["--segment-length", "0"], "--segment-length is 0; it must be in [2, 64]"),
        (["--dataset", "bundled/hopper"], "--dataset: needs --run"),
        (["--seed", "-1"], "--seed is -1"),
        (["--run", "nowhere"], "nowhere: no such run folder"),
        (["--run", "RUN", "--segment-length", "9"], "the run's windows have 8 steps"),
        (["--out", "FILE"], "cannot write the figure"),
    ],
)
def test_mistakes_end_in_one_line(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    (tmp_path / "bad.yaml").write_text("mine: {states: '<= u'}\n")
    (tmp_path / "empty_at_0.yaml").write_text("mine: {states: '< t'}\n")
    (tmp_path / "unquoted.yaml").write_text("mine:\n  states: > t\n")
    (tmp_path / "file").write_text("")
    places = {
        "BAD": tmp_path / "bad.yaml",
        "UNQUOTED": tmp_path / "unquoted.yaml",
        "EMPTY_AT_0": tmp_path / "empty_at_0.yaml",
        "RUN": run.path,
        "FILE": tmp_path / "file" / "deep",
    }
    given = [str(places.get(word, word)) for word in words]
    out = [] if "--out" in words else ["--out", str(tmp_path)]
    assert main(["masks", *given, *out]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_colours_of_the_picture_are_the_masks_cells(tmp_path: Path) -> None:
    """Counted by area: cells of each kind in the picture are as many as in the masks."""
    visible = np.zeros((4, 8), bool)
    visible[0, :3] = visible[2, :7] = True
    asked = np.zeros((4, 8), bool)
    asked[1, :5] = True
    drawing = MaskDrawing("some_name", "about it", (MaskPanel(visible, asked, t=2),))
    path = mask_figure([drawing], ("states", "returns", "actions", "rewards"), tmp_path / "masks.png")
    pixels = np.asarray(Image.open(path).convert("RGB"))[60:]  # below the legend
    counts = [
        int((pixels == [int(colour[at : at + 2], 16) for at in (1, 3, 5)]).all(-1).sum()) for colour in CELL_COLOURS
    ]
    shares = np.array(counts) / sum(counts)
    np.testing.assert_allclose(shares, np.array([17, 10, 5]) / 32, atol=0.03)
    assert mask_text(drawing, ("states", "returns", "actions", "rewards")).plain.count("?") == 5


def test_pictures_of_many_and_of_few(tmp_path: Path) -> None:
    panel = MaskPanel(np.eye(4, 8, dtype=bool), np.ones((4, 8), bool), t=1, goals=(7,))
    names = ("states", "returns", "actions", "rewards")
    sizes = {}
    for count in (1, 5, 7):
        path = mask_figure([MaskDrawing(f"p{n}", "", (panel, panel)) for n in range(count)], names, tmp_path / "m.png")
        with Image.open(path) as picture:
            sizes[count] = picture.size
    assert sizes[7][0] > 1.8 * sizes[5][0]
    assert sizes[7][1] < sizes[5][1]


@pytest.mark.parametrize(
    ("length", "width", "beside"), [(8, 80, 3), (8, 30, 1), (16, 80, 1), (16, 120, 2), (12, 10, 1)]
)
def test_text_stays_within_the_terminal_and_its_columns_under_their_steps(length: int, width: int, beside: int) -> None:
    panel = MaskPanel(np.eye(4, length, dtype=bool), np.ones((4, length), bool), t=1, goals=(3,))
    names = ("states", "returns", "actions", "rewards")
    lines = mask_text(MaskDrawing("name", "", (panel,) * 3), names, width).plain.splitlines()
    blocks = [lines[start : start + 5] for start in range(1, len(lines), 6)]
    assert [block[0].split().count("t") for block in blocks] == [beside] * (3 // beside) + [3 % beside] * (
        3 % beside > 0
    )
    assert all(line == "" for line in lines[6::6])
    if width > 2 * length:
        assert max(map(len, lines)) <= width
    for block in blocks:
        for row, line in enumerate(block[1:]):
            shown = [column for column, sign in enumerate(line) if sign in "■★"]
            assert {block[0][: column + 1].split()[-1] for column in shown} == {"t" if row == 1 else str(row)}
