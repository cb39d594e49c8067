"""Study files: what they say, and what is wrong with those that are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from m3pc_ray.configuration import shipped_configs, value_of
from m3pc_ray.errors import UserError
from m3pc_ray.studies.study_file import load_study, read_study
from tests.studies.factory import SMALL, study_tree

BAD: list[tuple[dict[str, Any], str]] = [
    ({"sedes": [0]}, "sedes: no such key of a study; did you mean seeds"),
    ({"seeds": [0, 0]}, "seeds: must be a list of different whole numbers"),
    ({"seeds": 3}, "seeds: must be a list"),
    ({"datasets": None}, "datasets: at least one is needed"),
    ({"datasets": {"a": {}}}, "datasets: a: name a data set"),
    ({"datasets": {"a/b": {"dataset": "bundled/hopper"}}}, "a/b: a name has letters"),
    ({"datasets": {"a": {"config": "no_such"}}}, "no_such: no such configuration file"),
    ({"settings": {"model.widht": 3}}, "settings: model.widht: no such setting; did you mean model.width"),
    ({"settings": {"model.width": "wide"}}, "settings: model.width: must be a whole number, not wide"),
    ({"settings": {"model.width": -4}}, "model.width: must be in"),
    ({"settings": {"seed": 4}}, "settings: seed: not here"),
    ({"settings": {"evaluation.episodes": 4}}, "evaluation.episodes: not here"),
    ({"variants": {}}, "variants: at least one is needed"),
    ({"variants": {"a": {"setings": {}}}}, "variants: a: setings: no such key of a variant; did you mean settings"),
    ({"variants": {"a": {"trained_as": "b"}}}, "variants: a: trained_as: b: not known here"),
    ({"variants": {"a": {"critic": "a"}}}, "variants: a: names itself"),
    ({"variants": {"a": {}, "b": {"proposes": "a"}}}, "variants: b: proposes and predicts belong together"),
    ({"variants": {"a": {"on": {"hip": {}}}}}, "variants: a: on: hip: not known here"),
    ({"variants": {"a": {"x": "one"}}}, "variants: a: x: must be a number"),
    (
        {"variants": {"a": {}, "b": {"trained_as": "a", "settings": {"masks.groups": 1}}}},
        "variants: b: settings: masks.groups: this variant trains nothing",
    ),
    (
        {"variants": {"a": {}, "b": {"trained_as": "a"}, "c": {"critic": "b"}}},
        "variants: c: b trains no run of its own",
    ),
    (
        {"variants": {"a": {}, "b": {"start_from": "a", "settings": {"pretrain.components": "both"}}}},
        "variants: b: start_from: needs pretrain.components btm or critic",
    ),
    ({"variants": {"a": {"label": "x"}, "b": {"label": "x"}}}, "variants: two have the label 'x'"),
    ({"columns": None}, "columns: name the measures"),
    ({"columns": ["scores/none"]}, "columns: scores/none: no such measure"),
    ({"columns": ["score/return"]}, "columns: score/return: evaluation.planners does not name return"),
    ({"columns": ["planning/return"]}, "columns: planning/return: evaluation.planners does not name return"),
    ({"columns": ["score/mlp_bc"]}, "columns: score/mlp_bc: needs evaluation.mlp_bc"),
    ({"baseline": "no"}, "baseline: no: not known here"),
    ({"differences": ["score/none"]}, "differences: to which variant"),
    ({"figure": ["entropy"]}, "figure: entropy: not known here"),
    ({"evaluation": {"planners": ["some"]}}, "evaluation: planners: some: not known here"),
    ({"evaluation": {"episodes": 0}}, "evaluation: episodes: must be at least 1"),
    ({"evaluation": {"mlp_bc": {"steps": 3}}}, "mlp_bc: batch_size: must be a whole number"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_a_mistake_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        read_study(study_tree(**changes), "file.yaml", "small")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_win_in_order(tmp_path: Path) -> None:
    tree = study_tree(
        settings={**SMALL, "pretrain.steps": 1, "pretrain.beta1": 0.1, "model.dropout": 0.1},
        datasets={"hop": {"dataset": "bundled/hopper", "settings": {"pretrain.steps": 2, "critic.updates": 9}}},
        variants={"a": {}, "b": {"settings": {"pretrain.steps": 3}, "on": {"hop": {"model.dropout": 0.2}}}},
        seeds=[5],
    )
    study = read_study(tree, "file.yaml", "small")
    a, b = (cell.config() for cell in study.cells())
    names = ("seed", "data.dataset", "pretrain.steps", "pretrain.beta1", "model.dropout", "critic.updates")
    assert [value_of(a, name) for name in names] == [5, "bundled/hopper", 2, 0.1, 0.1, 9]
    assert [value_of(b, name) for name in names] == [5, "bundled/hopper", 3, 0.1, 0.2, 9]
    given = {"critic.updates": "11", "model.dropout": "0.3", "evaluation.episodes": "4"}
    told = read_study(tree, "file.yaml", "small", {"hop": "/data/x.hdf5"}, given)
    a, b = (cell.config() for cell in told.cells())
    assert [value_of(a, name) for name in names] == [5, "/data/x.hdf5", 2, 0.1, 0.3, 11]
    assert [value_of(b, name) for name in names] == [5, "/data/x.hdf5", 3, 0.1, 0.2, 11]
    assert (told.evaluation.episodes, told.evaluation.seed) == (4, 7)


def test_cells_that_train_come_before_those_that_need_them() -> None:
    study = read_study(study_tree(seeds=[0, 3]), "file.yaml", "small")
    names = [cell.name for cell in study.cells()]
    assert len(names) == 10
    assert names.index("hop-standard-s3") < names.index("hop-one_group-s3") < names.index("hop-pair-s3")
    pair = next(cell for cell in study.cells() if cell.name == "hop-pair-s3")
    roles = {role: cell.name for role, cell in pair.trained().items()}
    assert roles == {"predicts": "hop-standard-s3", "proposes": "hop-one_group-s3"}


def test_shipped_studies_are_whole() -> None:
    found = {path.stem: load_study(path) for path in sorted((shipped_configs() / "studies").glob("*.yaml"))}
    assert set(found) == {"specialised", "data_efficiency", "heteromodal", "deviations", "better"}
    assert load_study("studies/deviations").seeds == (0, 1)
    names = {cell.name for study in found.values() for cell in study.cells()}
    assert {"hopper-medium-rcbc_only-s0", "walker2d-medium-episodes_5-s0", "hopper-medium-standard-s1"} <= names
