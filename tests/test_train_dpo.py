"""The preference recipes end to end on a handful of pictures, and checkpoints that are kept as a change."""

import json
from dataclasses import replace

import pytest
import torch

from cotlib.align.dpo import DPOConfig
from cotlib.align.guided import GuidedConfig
from cotlib.align.pairs import PicturesPlan
from cotlib.align.tuning import STATE
from cotlib.assets import data_dir
from cotlib.errors import UserError
from cotlib.models.checkpoint import base_folder, read_card
from cotlib.models.generator import PictogramGenerator
from cotlib.train import dpo

BASE = data_dir() / "generator-base"
TINY = DPOConfig(batch=2, updates=3)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    counts = dpo.run_pictures(folder, start=BASE, plan=PicturesPlan(jobs=12, each=4))
    assert counts["pictures"] == 48 and 0 < counts["right"] < 48
    return folder


@pytest.fixture(scope="module")
def tuned(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dpo")
    recipe = replace(dpo.STAGES["dpo"], dpo=TINY, validate=(1, 1))
    metrics = dpo.run(folder, "dpo", start=BASE, data=pictures, recipe=recipe)
    assert set(metrics) == {"updates", "truth", "truth_before", "pairs"}
    return folder


def test_a_checkpoint_holds_the_tuned_layers_and_names_its_base(tuned):
    card = read_card(tuned)
    assert card["base"] == {"folder": "generator-base", "sha256": read_card(BASE)["sha256"]}
    assert base_folder(tuned) == BASE and base_folder(BASE) is None
    assert (tuned / "model.safetensors").stat().st_size < 0.8 * (BASE / "model.safetensors").stat().st_size
    assert not (tuned / STATE).exists()
    before, after = PictogramGenerator.from_pretrained(BASE), PictogramGenerator.from_pretrained(tuned)
    same = {k: torch.equal(v, after.state_dict()[k]) for k, v in before.state_dict().items()}
    assert all(same[k] for k in same if not k.startswith(dpo.TUNED_PARTS))


def test_the_card_holds_pairs_and_curves(tuned):
    card = read_card(tuned)
    assert card["pairs"]["pairs"] == sum(card["pairs_by_task"].values()) == card["metrics"]["pairs"]
    assert card["curves"]["update"] == [3] and len(card["curves"]["margin"]) == 1
    assert card["curves"]["truth"][0][0] == 0 and card["dpo"]["updates"] == 3
    json.dumps(card)


def test_a_second_round_is_kept_as_a_change_of_the_first_base(tuned, tmp_path):
    pictures = tmp_path / "pictures"
    dpo.run_pictures(pictures, start=tuned, plan=PicturesPlan(jobs=12, each=4))
    recipe = replace(dpo.STAGES["dpo-guided-orm"], dpo=replace(TINY, updates=1), validate=(1, 1),
                     guided=GuidedConfig(prompts=1, each=2, rounds=1))  # fmt: skip
    dpo.run(tmp_path / "guided", "dpo-guided-orm", start=tuned, data=pictures, recipe=recipe)
    card = read_card(tmp_path / "guided")
    assert (
        card["base"]["folder"] == "generator-base"
        and card["tuned_from"]["sha256"] == read_card(tuned)["sha256"]
    )
    assert card["reward"]["reward"] == "orm" and "kl" in card["curves"]


def test_a_change_without_its_base_is_refused(tuned):
    card = json.loads((tuned / "card.json").read_text())
    (tuned / "card.json").write_text(json.dumps(card | {"base": card["base"] | {"sha256": "0" * 64}}))
    with pytest.raises(UserError, match="is a change of generator-base with hash 000000000000"):
        PictogramGenerator.from_pretrained(tuned)
    (tuned / "card.json").write_text(json.dumps(card))


def test_missing_and_foreign_data_are_one_sentence(pictures, tmp_path):
    with pytest.raises(UserError, match="dpo goes on from generator-base and needs pictures drawn by it"):
        dpo.run(tmp_path, "dpo", start=BASE)
    with pytest.raises(UserError, match="drawn by another generator"):
        dpo.run(tmp_path, "dpo-iter", start=data_dir() / "generator-clean", data=pictures)
    with pytest.raises(UserError, match="dpo-pictures draws with a generator"):
        dpo.run_pictures(tmp_path)
