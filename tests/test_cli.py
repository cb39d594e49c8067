"""The front door: one line for every mistake, and no more imports than a command needs."""

import subprocess
import sys

import pytest

from m3pc_ray import __version__, cli
from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import load_config
from m3pc_ray.errors import UserError
from m3pc_ray.training.run_folder import RunFolder


def mistake(capsys, *words: str) -> str:
    """Exit code 2 and one line on stderr, which is returned."""
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("m3pc: error: ")
    return captured.err.removeprefix("m3pc: error: ").strip()


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"m3pc {__version__}\n"


def test_overview_lists_every_command_with_its_summary(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert {"pretrain", "resume"} <= set(cli.command_names())
    for name in cli.command_names():
        assert any(line.split()[:1] == [name] and len(line.split()) > 3 for line in text.splitlines()), name
    assert not any(name.startswith("_") for name in cli.command_names())


def test_no_command_shows_the_overview_and_fails(capsys):
    assert cli.main([]) == 2
    assert "usage: m3pc <command>" in capsys.readouterr().out


@pytest.mark.parametrize("name", cli.command_names())
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main([name, "--help"])
    assert exit_.value.code == 0
    assert f"usage: m3pc {name}" in capsys.readouterr().out


def test_mistakes_in_the_command_line(capsys):
    assert mistake(capsys, "resme") == "resme: no such command; did you mean resume?"
    assert mistake(capsys, "xyz").startswith("xyz: no such command; there are: ")
    assert "the following arguments are required: RUN" in mistake(capsys, "resume")
    assert mistake(capsys, "resume", "x", "--fast").startswith("resume: --fast: no such option")
    assert mistake(capsys, "resume", "x", "y").startswith("resume: y: not expected here")


def test_a_misspelt_setting_names_the_right_one(capsys, tmp_path):
    message = mistake(capsys, "pretrain", "--out", str(tmp_path / "run"), "--model.widht", "3")
    assert message.startswith("pretrain: --model.widht: no such option; did you mean --model.width?")
    # Not even a prefix that only one option has: tomorrow two may have it.
    assert "--model.wid: no such option" in mistake(capsys, "pretrain", "--out", "x", "--model.wid", "3")
    assert "model.width: must be a whole number" in mistake(capsys, "pretrain", "--out", "x", "--model.width", "a")


def test_interrupts_end_quietly(capsys, monkeypatch):
    def interrupted(words: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_dispatch", interrupted)
    assert cli.main(["resume"]) == 130
    assert capsys.readouterr().err == "m3pc: interrupted\n"


def test_user_errors_are_one_line_even_with_line_breaks(capsys, monkeypatch):
    def failing(words: list[str]) -> int:
        raise UserError("a file:\n  is wrong")

    monkeypatch.setattr(cli, "_dispatch", failing)
    assert mistake(capsys, "resume") == "a file: is wrong"


def test_the_overview_imports_nothing_heavy():
    code = (
        "import sys; from m3pc_ray import cli; assert cli.main(['--help']) == 0; "
        "print(sorted(set(sys.modules) & {'torch', 'ray', 'gymnasium', 'mujoco', 'pyarrow', 'numpy'}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.splitlines()[-1] == "[]"


def test_resume_wants_a_run(capsys, tmp_path):
    assert mistake(capsys, "resume", str(tmp_path / "none")).endswith("none: no such run folder")
    assert "not a run of m3pc" in mistake(capsys, "resume", str(tmp_path))


def test_resume_of_a_finished_run_says_so(capsys, tmp_path):
    run = RunFolder.create(tmp_path / "run", RunConfig(), "pretrain")
    run.write_summary({"status": "finished"})
    assert cli.main(["resume", str(run.path)]) == 0
    assert "finished already" in capsys.readouterr().out


def test_resume_hands_a_finetuning_run_to_finetune(tmp_path, monkeypatch):
    from m3pc_ray.commands import finetune

    run = RunFolder.create(tmp_path / "run", RunConfig(), "finetune")
    seen = []
    monkeypatch.setattr(finetune, "resume_finetune", lambda path: seen.append(path) or 7)
    assert cli.main(["resume", str(run.path)]) == 7
    assert seen == [run.path]


def test_resume_without_a_checkpoint_says_what_to_do(capsys, tmp_path):
    config = load_config(None, {"data.dataset": "bundled/hopper"})
    run = RunFolder.create(tmp_path / "run", config, "pretrain")
    assert mistake(capsys, "resume", str(run.path)).endswith("no complete checkpoint; start it again with --overwrite")


def test_resume_refuses_an_unknown_kind(capsys, tmp_path):
    run = RunFolder.create(tmp_path / "run", RunConfig(), "pretrain")
    run.write_summary({"kind": "sweep"})
    assert "kind: must be pretrain or finetune, not sweep" in mistake(capsys, "resume", str(run.path))
