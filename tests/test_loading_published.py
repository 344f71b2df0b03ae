"""Published models through the same door as the shipped ones: the folder says what it is."""

import json

import pytest
import torch
from published_showo_tools import write_magvit, write_showo, write_tokenizer

from cotlib import load
from cotlib.errors import UserError
from cotlib.judging.geneval import GenEvalJudge
from cotlib.models.published.llava import LlavaVerifier
from cotlib.models.published.showo import Showo
from cotlib.search import single


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    write_showo(folder / "show-o")
    write_magvit(folder / "magvitv2", bits=13)
    write_tokenizer(folder / "phi-1_5")
    return folder


def test_a_show_o_draws_through_the_same_strategies(home):
    model = load("generator", weights=str(home / "show-o"))
    assert isinstance(model, Showo) and model.config is not None
    outcome = single(model, ["a photo of a cat"], n=2, seed=0, steps=3)
    codes = torch.stack([path.codes for path in outcome.paths[0]])
    assert codes.shape == (2, model.tokens) and int(codes.max()) < model.codebook_size
    assert outcome.ledger.generator_token_passes > 0 and outcome.images[0].min() >= 0


@pytest.mark.parametrize(
    "said", [{"architectures": ["LlavaQwenForCausalLM"]}, {"model_type": "llava_onevision"}]
)
def test_a_llava_folder_goes_to_its_own_loader(monkeypatch, tmp_path, said):
    (tmp_path / "config.json").write_text(json.dumps(said))
    asked = {}

    def instead(name, device, **options):
        asked.update(name=name, device=device, **options)
        return "the verifier"

    monkeypatch.setattr(LlavaVerifier, "from_pretrained", instead)
    assert (
        load("verifier", weights=str(tmp_path), questions="mine.json", paper_compatible=True)
        == "the verifier"
    )
    assert asked == {
        "name": str(tmp_path),
        "device": "cpu",
        "questions": "mine.json",
        "paper_compatible": True,
        "four_bit": False,
    }


def test_a_judges_folder_goes_to_its_own_loader(monkeypatch, tmp_path):
    monkeypatch.setattr(GenEvalJudge, "from_pretrained", lambda folder, device: ("the judge", folder, device))
    assert load("judge", kind=str(tmp_path)) == ("the judge", str(tmp_path), "cpu")
    with pytest.raises(UserError, match='no judge "jury"; expected "detector", "template", or a folder'):
        load("judge", kind="jury")


def test_a_folder_of_the_course_is_still_the_courses():
    from cotlib.loading import generator_folder

    model = load("generator", weights=str(generator_folder("masked", "dpo")))
    assert type(model).__name__ == "PictogramGenerator"
