"""The tiny checkpoints against the published lists of names, shapes and fields, which are written out in the tests by hand."""

import json

import pytest
import torch
from published_showo_tools import magvit_shapes, showo_config, showo_shapes
from safetensors import safe_open

from cotlib.lab.tiny_checkpoints import SMALL, known_words, spelled, write_all, write_llava
from cotlib.models.published.files import load_words
from cotlib.models.published.llava import LlavaVerifier, answer_ids, load_tokenizer, read_questions
from cotlib.models.published.magvit import Magvit
from cotlib.models.published.showo import Showo
from cotlib.search import Ledger, parm


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("tiny"))


def shapes_in(folder):
    found = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            found |= {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118
    return found


def test_show_o_has_the_published_names_and_fields(home):
    assert shapes_in(home / "show-o") == showo_shapes(64, 2, 2, 256)
    said = json.loads((home / "show-o" / "config.json").read_text())
    published = {key: value for key, value in showo_config(256).items() if not key.startswith("_diff")}
    assert said == published


def test_magvit_has_the_published_names(home):
    halves = magvit_shapes(32, SMALL.encoder_widths, SMALL.decoder_widths, SMALL.encoder_blocks, SMALL.decoder_blocks, 13)  # fmt: skip
    tables = {"quantize.embedding": [8192, 13], "quantize.power_vals": [13]}
    assert shapes_in(home / "magvitv2") == halves | tables
    assert Magvit.from_pretrained(home / "magvitv2").patch == 16


def test_llava_has_the_published_names(home):
    width, eye = 64, 32
    rows = len(load_tokenizer(home / "llava"))
    tower = "model.vision_tower.vision_tower.vision_model."
    expected = {"model.embed_tokens.weight": [rows, width], "lm_head.weight": [rows, width], "model.norm.weight": [width],
                "model.image_newline": [width], "model.mm_projector.0.weight": [width, eye], "model.mm_projector.0.bias": [width],
                "model.mm_projector.2.weight": [width, width], "model.mm_projector.2.bias": [width],
                tower + "embeddings.patch_embedding.weight": [eye, 3, 14, 14], tower + "embeddings.patch_embedding.bias": [eye],
                tower + "embeddings.position_embedding.weight": [729, eye],
                tower + "post_layernorm.weight": [eye], tower + "post_layernorm.bias": [eye]}  # fmt: skip
    for i in range(2):
        for part, out in (("q", width), ("k", 32), ("v", 32)):
            name = f"model.layers.{i}.self_attn.{part}_proj"
            expected |= {f"{name}.weight": [out, width], f"{name}.bias": [out]}
        expected |= {f"model.layers.{i}.{name}.weight": shape for name, shape in (
            ("self_attn.o_proj", [width, width]), ("mlp.gate_proj", [128, width]), ("mlp.up_proj", [128, width]),
            ("mlp.down_proj", [width, 128]), ("input_layernorm", [width]), ("post_attention_layernorm", [width]))}  # fmt: skip
        for name, out, inside in (("self_attn.q_proj", eye, eye), ("self_attn.k_proj", eye, eye), ("self_attn.v_proj", eye, eye),
                                  ("self_attn.out_proj", eye, eye), ("mlp.fc1", 64, eye), ("mlp.fc2", eye, 64)):  # fmt: skip
            expected |= {f"{tower}encoder.layers.{i}.{name}.weight": [out, inside], f"{tower}encoder.layers.{i}.{name}.bias": [out]}  # fmt: skip
        for name in ("layer_norm1", "layer_norm2"):
            expected |= {f"{tower}encoder.layers.{i}.{name}.{part}": [eye] for part in ("weight", "bias")}
    assert shapes_in(home / "llava") == expected
    said = json.loads((home / "llava" / "config.json").read_text())
    assert said["architectures"] == ["LlavaQwenForCausalLM"] and said["mm_projector_type"] == "mlp2x_gelu"
    assert len(list((home / "llava").glob("model-*-of-00002.safetensors"))) == 2


def test_words_are_as_many_as_the_published_ones_and_whole(home):
    words = load_words(home / "phi-1_5", 50295)
    assert words.bos_token_id == words.eos_token_id == 50256
    ids = words(["a photo of a red dog left of a couch"])["input_ids"][0]
    assert len(ids) == 10 and words.decode(ids) == "a photo of a red dog left of a couch"
    assert words.decode(words(["a zebra, crossing!"])["input_ids"][0]) == "a zebra, crossing!"
    chat = load_tokenizer(home / "llava")
    yes, no = answer_ids(chat)
    assert len(yes) == len(no) == 2
    for text in read_questions().values():
        ids = chat(" " + text)["input_ids"]
        assert chat.decode(ids) == " " + text and len(ids) < 2 * len(text.split())


def test_each_word_is_a_token():
    vocab, merges = spelled(["Ġcat", "Ġcar", "do"])
    assert len(vocab) == 256 + 5 and ("Ġca", "r") in merges and len(merges) == 5
    assert len(set(known_words())) == len(known_words()) > 100


def test_the_same_weights_every_time_and_others_by_seed(home, tmp_path):
    again = LlavaVerifier.from_pretrained(write_llava(tmp_path / "again")).model.state_dict()
    other = LlavaVerifier.from_pretrained(write_llava(tmp_path / "other", seed=4)).model.state_dict()
    for name, tensor in LlavaVerifier.from_pretrained(home / "llava").model.state_dict().items():
        assert torch.equal(tensor, again[name])
    assert not torch.equal(other["lm_head.weight"], again["lm_head.weight"])


def test_a_search_runs_on_them(home):
    model, verifier = Showo.from_pretrained(home / "show-o"), LlavaVerifier.from_pretrained(home / "llava")
    ledger = Ledger()
    outcome = parm(model, ["a photo of a red dog"], 3, 0, ledger, verifier=verifier, steps=4)
    assert outcome.images.shape == (1, 3, 256, 256) and ledger.decodes > 3
    answers = [p for path in outcome.paths[0] for scores in path.scores.values() for p in scores]
    assert len(set(answers)) == len(answers) and all(0 < p < 1 for p in answers)  # no two pictures alike
