"""Settings: what YAML and the command line may say, and that every mistake is named in one line."""

import argparse
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from m3pc_ray.config import RunConfig
from m3pc_ray.configuration import (
    add_config_arguments,
    all_settings,
    find_config,
    from_dict,
    given_overrides,
    load_config,
    shipped_configs,
    shipped_settings,
    to_dict,
    to_yaml,
    with_settings,
)
from m3pc_ray.configuration_ranges import RANGES, inside
from m3pc_ray.errors import UserError


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def failure(path: Path | None = None, overrides: dict[str, str] | None = None) -> str:
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_without_file_or_options_the_defaults_hold():
    assert load_config(None) == RunConfig()


def test_file_then_command_line(tmp_path):
    path = write(tmp_path, "a.yaml", "seed: 3\nmodel:\n  width: 64\n  heads: 2\n")
    config = load_config(path, {"model.width": "256"})
    assert (config.seed, config.model.width, config.model.heads) == (3, 256, 2)
    assert config.critic == RunConfig().critic


def test_yaml_reads_numbers_and_words_as_people_write_them(tmp_path):
    path = write(
        tmp_path,
        "a.yaml",
        "pretrain: {learning_rate: 2e-3, steps: 20_000, entropy_target: -3, weight_decay: 5.E-3, batch_size: 0256}\n"
        "planner: {guide: none}\nlogging: {wandb: off, tensorboard: false}\ncritic: {polyak: .5}\n",
    )
    config = load_config(path)
    assert config.pretrain.learning_rate == 0.002
    assert config.pretrain.steps == 20000
    assert config.pretrain.entropy_target == -3.0
    assert config.pretrain.weight_decay == 0.005
    assert config.pretrain.batch_size == 256
    assert config.planner.guide == "none"
    assert config.logging.wandb == "off"
    assert config.logging.tensorboard is False
    assert config.critic.polyak == 0.5


@pytest.mark.parametrize("text", ["none", "null", "None"])
def test_optional_numbers_can_be_taken_back(text):
    config = with_settings(RunConfig(), {"pretrain.entropy_target": -2.5})
    assert config.pretrain.entropy_target == -2.5
    assert with_settings(config, {"pretrain.entropy_target": text}).pretrain.entropy_target is None


def test_included_files_come_first_in_order(tmp_path):
    write(tmp_path, "sizes/small.yaml", "model: {width: 32, heads: 2}\nseed: 1\n")
    write(tmp_path, "sizes/deep.yaml", "model: {encoder_layers: 6, heads: 1}\n")
    path = write(tmp_path, "a.yaml", "include: [sizes/small.yaml, sizes/deep.yaml]\nmodel: {width: 64}\n")
    config = load_config(path)
    assert (config.model.width, config.model.heads, config.model.encoder_layers, config.seed) == (64, 1, 6, 1)


def test_a_file_that_includes_itself_is_an_error(tmp_path):
    write(tmp_path, "b.yaml", "include: a.yaml\n")
    path = write(tmp_path, "a.yaml", "include: b.yaml\n")
    assert "include: the file includes itself (a.yaml -> b.yaml -> a.yaml)" in failure(path)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("model: {widht: 3}", "model.widht: no such setting; did you mean model.width"),
        ("width: 3", "width: no such setting; did you mean model.width?"),
        ("pretrain: {expectile: 0.7}", "pretrain.expectile: no such setting; did you mean critic.expectile"),
        ("model: 3", "model: a section of settings, not a single value"),
        ("seed: {a: 1}", "seed: must be a whole number, not {'a': 1}"),
        ("model: {width: wide}", "model.width: must be a whole number, not wide"),
        ("model: {width: 3.5}", "model.width: must be a whole number, not 3.5"),
        ("model: {width: true}", "model.width: must be a whole number, not True"),
        ("model: {width:}", "model.width: must be a whole number, not nothing"),
        ("model: {dropout: high}", "model.dropout: must be a number, not high"),
        ("model: {dropout: .nan}", "model.dropout: must be a number, not .nan"),
        ("planner: {guide: value}", "planner.guide: must be none or return or critic, not value"),
        ("logging: {tensorboard: 1}", "logging.tensorboard: must be true or false, not 1"),
        ("data: {dataset: 3}", "data.dataset: must be text, not 3"),
        ("- 1", "a configuration is a mapping of settings, this holds a list"),
        ("seed: 1\nseed: 2", "line 1 not valid YAML: seed is given twice"),
        ("model: {width: 3", "not valid YAML"),
    ],
)
def test_mistakes_name_the_file_and_the_setting(tmp_path, text, expected):
    path = write(tmp_path, "a.yaml", text + "\n")
    message = failure(path)
    assert message.startswith(str(path))
    assert expected in message


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("model.width", "130", "must be divisible by model.heads = 4, which 130 is not"),
        ("model.dropout", "1", "must be in [0, 1), not 1.0"),
        ("pretrain.batch_size", "0", "must be in [1, inf), not 0"),
        ("pretrain.learning_rate", "0", "must be in (0, inf), not 0.0"),
        ("online.offline_fraction", "-0.1", "must be in [0, 1], not -0.1"),
        ("planner.context_length", "8", "must be below model.segment_length = 8, not 8"),
        ("model.log_std_min", "0", "must be below model.log_std_max = 0, not 0"),
        ("device", "gpu", "must be auto, cpu, cuda or cuda:N, not gpu"),
        ("seed", "-1", "must be in [0, inf), not -1"),
    ],
)
def test_values_out_of_range(name, value, expected):
    assert failure(None, {name: value}) == f"command line: {name}: {expected}"


def test_test_time_masks_need_a_weight():
    weights = {name: "0" for name in all_settings() if name.startswith("masks.") and name.endswith("_weight")}
    assert "masks.test_mask_fraction: above 0 needs one of" in failure(None, weights)
    assert load_config(None, {**weights, "masks.test_mask_fraction": "0"}).masks.test_mask_fraction == 0.0


def test_every_number_has_a_range_that_holds_for_its_default():
    numeric = {
        name for name, setting in all_settings().items() if setting.annotation in (int, float, int | None, float | None)
    }
    assert numeric == set(RANGES)
    for name in numeric:
        default = all_settings()[name].default
        assert default is None or inside(default, RANGES[name]), name


def test_intervals_include_the_ends_their_brackets_say():
    assert [inside(value, "[0, 1)") for value in (-0.1, 0, 0.5, 1)] == [False, True, True, False]
    assert [inside(value, "(0, inf)") for value in (0, 1e-9)] == [False, True]


def test_every_setting_is_documented():
    assert [name for name, setting in all_settings().items() if not setting.help] == []


def test_written_configurations_read_back_equal(tmp_path):
    config = load_config(None, {"model.width": "64", "pretrain.learning_rate": "1.1e-5", "critic.polyak": "1e-20"})
    assert from_dict(to_dict(config)) == config
    assert load_config(write(tmp_path, "config.yaml", to_yaml(config))) == config
    assert from_dict(yaml.safe_load(to_yaml(config))) == config  # any YAML reader will do


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_floats_survive_yaml_exactly(value):
    config = with_settings(RunConfig(), {"pretrain.learning_rate": value})
    tree = yaml.safe_load(to_yaml(config))
    assert from_dict(tree).pretrain.learning_rate == value


def test_options_become_overrides_only_when_given():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out")
    add_config_arguments(parser)
    arguments = parser.parse_args(["--out", "x", "--model.width", "256", "--pretrain.entropy_target", "-3", "--seed=4"])
    assert given_overrides(arguments) == {"model.width": "256", "pretrain.entropy_target": "-3", "seed": "4"}


def test_an_option_of_the_command_itself_wins():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", help="mine")
    add_config_arguments(parser)
    arguments = parser.parse_args(["--seed", "4"])
    assert (arguments.seed, given_overrides(arguments)) == ("4", {})


def test_help_shows_docstrings_and_defaults_of_the_sections_asked_for():
    parser = argparse.ArgumentParser()
    add_config_arguments(parser, ["planner", ""])
    text = " ".join(parser.format_help().split())
    assert "settings: planner" in text
    assert "Candidate action sequences N a decision (625 in the paper)" in text
    assert "(default: 128)" in text
    assert "{none,return,critic}" in text
    assert "--seed INT" in text
    assert "--model.width" not in text


@pytest.mark.parametrize("path", shipped_settings(), ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(path):
    assert load_config(path) is not None


def test_shipped_sizes_are_what_they_say():
    paper = load_config("sizes/paper")
    assert (paper.model.width, paper.model.dropout, paper.pretrain.batch_size) == (512, 0.1, 2048)
    assert (paper.planner.num_candidates, paper.planner.context_length) == (625, 4)
    assert load_config("sizes/cpu").model.width == 128


def test_shipped_configurations_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("configs/hopper_medium_replay.yaml") == shipped_configs() / "hopper_medium_replay.yaml"
    message = failure(Path("hopper_medum"))
    assert "no such configuration file; did you mean" in message
    assert "hopper_medium" in message.split("did you mean")[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"planner.asked_returns": "1;2"}, "planner.asked_returns: must be numbers with commas between them"),
        ({"planner.asked_returns": "1,2,3", "online.num_candidates": "2"}, "names 3 returns, more than there are"),
        ({"planner.refinement_steps": "1", "planner.num_candidates": "1"}, "needs two candidates at least"),
        ({"planner.elite_fraction": "1"}, "planner.elite_fraction: must be in (0, 1), not 1"),
        ({"planner.warm_start": "true", "online.record_decisions": "true"}, "leaves no record of a decision"),
        ({"critic.ensemble_size": "1"}, "critic.ensemble_size: must be in [2, 64], not 1"),
    ],
)
def test_settings_of_better_plans_that_cannot_be(settings, message):
    assert message in failure(overrides=settings)
