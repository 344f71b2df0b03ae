"""Checkpoint folders of all published kinds are read, and what is not right is refused with one sentence."""

import json
import os
import pickle
import re
from pathlib import Path

import pytest
import torch
from published_showo_tools import Letters, random_tensors, showo_shapes, write_showo, write_tokenizer
from safetensors.torch import save_file
from torch import nn

from cotlib.errors import UserError
from cotlib.models.published.files import (
    beside,
    by_prefix,
    checkpoint_folder,
    fill,
    load_words,
    number_format,
    open_weights,
    read_config,
)  # fmt: skip
from cotlib.models.published.showo import Showo

TOY = {"codebook_size": 16, "llm_vocab_size": 40, "vocab_size": 67, "mask_token_id": 66}
WORDS = Letters(40)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A whole Show-o folder with few ids."""
    write_showo(tmp_path / "show-o", **TOY)
    return tmp_path / "show-o"


def tensors() -> dict[str, torch.Tensor]:
    return random_tensors(showo_shapes(entries=67))


def write(folder: Path, state: dict[str, torch.Tensor], kind: str) -> None:
    """The weights of a folder anew, as one of the four kinds."""
    for old in folder.glob("pytorch_model*"):
        old.unlink()
    if kind == "safetensors":
        save_file(state, folder / "pytorch_model.safetensors")
    elif kind == "bin":
        torch.save(state, folder / "pytorch_model.bin")
    elif kind == "old bin":
        torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    else:
        kind, half = kind.split()[1], len(state) // 2
        names = [f"pytorch_model-0000{i}-of-00002.{kind}" for i in (1, 2)]
        parts = [dict(list(state.items())[:half]), dict(list(state.items())[half:])]
        for name, part in zip(names, parts, strict=True):
            save_file(part, folder / name) if kind == "safetensors" else torch.save(part, folder / name)
        listed = {key: name for name, part in zip(names, parts, strict=True) for key in part}
        (folder / f"pytorch_model.{kind}.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": listed})
        )


def sentence(folder: Path, words=WORDS, **options) -> str:
    """What loading the folder is refused with: one line that ends the matter."""
    with pytest.raises(UserError) as caught:
        Showo.from_pretrained(folder, words=words, **options)
    said = str(caught.value)
    assert "\n" not in said and "expected" in said
    return said


# ----- all kinds of weights ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["safetensors", "bin", "old bin", "shards safetensors", "shards bin"])
def test_every_kind_of_file_gives_the_same_tensors(folder, kind):
    state = tensors()
    write(folder, state, kind)
    weights = open_weights(folder)
    assert weights.shapes == {name: tuple(t.shape) for name, t in state.items()}
    read = dict(weights.tensors())
    assert read.keys() == state.keys() and all(torch.equal(read[name], state[name]) for name in state)
    model = Showo.from_pretrained(folder, words=WORDS)
    assert torch.equal(model.phi.lm_head.weight, state["showo.lm_head.weight"])


def test_safetensors_come_before_pickles(folder):
    torch.save({"showo.lm_head.bias": torch.zeros(67)}, folder / "pytorch_model.bin")
    assert {file.name for file in open_weights(folder).files.values()} == {"pytorch_model.safetensors"}


def test_half_files_are_cast_and_whole_numbers_stay(tmp_path):
    layer = nn.BatchNorm1d(3)
    state = {name: t.half() if t.is_floating_point() else t for name, t in layer.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    with torch.device("meta"):
        made = nn.BatchNorm1d(3)
    fill(made, open_weights(tmp_path), torch.float32)
    assert made.weight.dtype == torch.float32 and made.num_batches_tracked.dtype == torch.long
    assert not any(t.is_meta for t in made.state_dict().values()) and isinstance(made.weight, nn.Parameter)


def test_a_loaded_model_does_not_hang_on_its_file(folder):
    model = Showo.from_pretrained(folder, words=WORDS)
    before = model.phi.lm_head.weight.clone()
    (folder / "pytorch_model.safetensors").write_bytes(b"\0" * 100)
    assert torch.equal(model.phi.lm_head.weight, before)
    assert not any(t.is_meta for t in [*model.phi.parameters(), *model.phi.buffers()])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads this process's memory from /proc")
def test_loading_holds_one_copy_of_a_sharded_checkpoint(tmp_path):
    """Three shards of 64 MiB float32, cast to half: half the files' size stays, and never much more than that is held."""
    import threading

    shape, names = (4096, 4096), [f"w{i}" for i in range(3)]

    class Big(nn.Module):
        def __init__(self):
            super().__init__()
            for name in names:
                setattr(self, name, nn.Parameter(torch.empty(shape)))

    for name in names:
        save_file({name: torch.full(shape, 0.5)}, tmp_path / f"{name}.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {n: f"{n}.safetensors" for n in names}})
    )
    with torch.device("meta"):
        made = Big()
    page, done, peak = os.sysconf("SC_PAGE_SIZE"), threading.Event(), [0]

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * page

    def watch():
        while not done.wait(0.002):
            peak[0] = max(peak[0], resident())

    before, watcher = resident(), threading.Thread(target=watch)
    watcher.start()
    fill(made, open_weights(tmp_path), torch.float16)
    done.set()
    watcher.join()
    files = 3 * 64 * 2**20
    assert (
        peak[0] - before < 1.75 * files
    )  # model 0.5, and of one tensor its pages, its copy and its cast: 5/6 more
    assert made.w2[0, 0].item() == 0.5


# ----- hub ids, folders, number formats ----------------------------------------------------------------------------


def test_hub_ids_with_and_without_a_subfolder(tmp_path, monkeypatch):
    asked = []

    def fetch(repo, allow_patterns):
        asked.append((repo, list(allow_patterns)))
        (tmp_path / "dpo").mkdir(exist_ok=True)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert checkpoint_folder("showlab/show-o-512x512") == tmp_path
    assert checkpoint_folder("ZiyuG/Image-Generation-CoT/dpo") == tmp_path / "dpo"
    assert [repo for repo, _ in asked] == ["showlab/show-o-512x512", "ZiyuG/Image-Generation-CoT"]
    assert "dpo/*.safetensors" in asked[1][1] and not any(p.endswith(".pt") for _, ps in asked for p in ps)
    with pytest.raises(UserError, match="has no folder dqo"):
        checkpoint_folder("ZiyuG/Image-Generation-CoT/dqo")


def test_what_is_neither_folder_nor_hub_id(tmp_path, monkeypatch):
    def offline(*_, **__):
        raise OSError("no network\nand more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(
        UserError, match=r"^no/such is no folder here, and the hub did not give it \(no network\)"
    ):
        checkpoint_folder("no/such")
    for name in ("no-such-folder", "/no/such/folder", str(tmp_path / "x")):
        with pytest.raises(UserError, match="expected a checkpoint folder"):
            checkpoint_folder(name)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is no folder; expected"):
        checkpoint_folder(tmp_path / "file")


def test_companions_are_found_inside_and_beside(tmp_path):
    own = tmp_path / "cot" / "dpo"
    own.mkdir(parents=True)
    assert beside(own, "magvitv2") is None
    for place in (tmp_path / "magvitv2", tmp_path / "cot" / "magvitv2", own / "magvitv2"):
        place.mkdir()
        assert beside(own, "magvitv2") == place


def test_number_formats():
    assert [number_format(n) for n in ("bf16", "float16", torch.float32)] == [
        torch.bfloat16,
        torch.float16,
        torch.float32,
    ]
    for wrong in ("int8", torch.int8, None):
        with pytest.raises(UserError, match="expected float32, bfloat16 or float16"):
            number_format(wrong)


def test_key_maps_take_the_first_rule_that_fits():
    rename = by_prefix(("a.b.", "x."), ("a.", "y."))
    assert [rename(n) for n in ("a.b.c", "a.c", "c.a.")] == ["x.c", "y.c", "c.a."]


# ----- refusals ----------------------------------------------------------------------------------------------------


def test_missing_and_extra_tensors_are_named(folder):
    state = tensors()
    gone = state.pop("showo.model.layers.1.mlp.fc1.bias")
    state["showo.model.layers.1.mlp.fc3.bias"] = gone
    write(folder, state, "safetensors")
    said = sentence(folder)
    assert (
        "1 tensor missing (model.layers.1.mlp.fc1.bias) and 1 tensor left over (showo.model.layers.1.mlp.fc3.bias)"
        in said
    )


def test_many_missing_tensors_are_counted(folder):
    write(
        folder,
        {n: t for n, t in tensors().items() if "layers.0.mlp" not in n or "fc1.weight" in n},
        "safetensors",
    )
    assert "3 tensors missing (model.layers.0.mlp.fc1.bias" in sentence(folder)
    write(folder, {n: t for n, t in tensors().items() if "layers.0." not in n}, "safetensors")
    assert "lack 'model.layers.0" in sentence(folder)
    write(folder, {}, "bin")
    assert "lack 'model.embed_tokens.weight'" in sentence(folder)


def test_the_projector_of_a_clip_variant_is_left_out_and_only_there(folder):
    extra = {f"mm_projector.{i}.{part}": torch.zeros(2) for i in (0, 2) for part in ("weight", "bias")}
    write(folder, {**tensors(), **extra}, "safetensors")
    assert "4 tensors left over (mm_projector.0.bias" in sentence(folder)
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**said, "w_clip_vit": True}))
    Showo.from_pretrained(folder, words=WORDS)


def test_a_tensor_of_another_shape_is_named(folder):
    state = tensors()
    state["showo.lm_head.weight"] = state["showo.lm_head.weight"][:-1].clone()
    write(folder, state, "safetensors")
    assert "showo.lm_head.weight" in sentence(folder) and "has shape [66, 32]; expected [67, 32]" in sentence(
        folder
    )


def test_a_missing_shard_is_named(folder):
    write(folder, tensors(), "shards safetensors")
    (folder / "pytorch_model-00002-of-00002.safetensors").unlink()
    assert "lacks the shard pytorch_model-00002-of-00002.safetensors (1 of 2" in sentence(folder)


def test_an_index_that_lists_nothing_or_leads_outside(folder):
    write(folder, tensors(), "shards safetensors")
    index = folder / "pytorch_model.safetensors.index.json"
    index.write_text('{"weight_map": {}}')
    assert "lists no shards" in sentence(folder)
    (folder.parent / "outside.safetensors").touch()
    index.write_text('{"weight_map": {"a": "../outside.safetensors"}}')
    assert "lacks the shard" in sentence(folder)
    index.write_text("[1]")
    assert "holds a list" in sentence(folder)


def test_shards_may_be_links_as_in_the_hubs_cache(folder):
    write(folder, tensors(), "shards safetensors")
    blobs = folder.parent / "blobs"
    blobs.mkdir()
    for i, shard in enumerate(sorted(folder.glob("*.safetensors"))):
        shard.rename(blobs / str(i))
        shard.symlink_to(blobs / str(i))
    Showo.from_pretrained(folder, words=WORDS)


def test_a_tensor_in_two_shards_is_refused(folder):
    write(folder, tensors(), "shards safetensors")
    save_file(tensors(), folder / "pytorch_model-00001-of-00002.safetensors")
    assert "both hold the tensor" in sentence(folder)


@pytest.mark.parametrize("kind", ["safetensors", "bin", "old bin"])
@pytest.mark.parametrize("kept", [0, 5, 0.5, 0.99])
def test_a_truncated_file_is_refused(folder, kind, kept):
    write(folder, tensors(), kind)
    file = next(folder.glob("pytorch_model*"))
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else kept])
    said = sentence(folder)
    assert file.name in said and "damaged" in said


class Trap:
    """What a pickle can do: run anything while it is read."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_pickle_that_runs_code_is_refused_and_runs_none(folder):
    mark = folder.parent / "it ran"
    for protocol in (True, False):
        write(folder, {}, "bin")
        torch.save(
            {**tensors(), "trap": Trap(mark)},
            folder / "pytorch_model.bin",
            _use_new_zipfile_serialization=protocol,
        )
        assert "is a pickle with more than tensors in it" in sentence(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(mark), protocol=2))
    assert "pickle" in sentence(folder) and not mark.exists()
    pickle.loads(pickle.dumps(Trap(mark)))
    assert mark.exists()  # the trap was real


def test_other_content_of_a_pickle_is_refused(folder):
    for content in ({"model": tensors()}, [torch.zeros(1)], {"step": 3}):
        write(folder, {}, "bin")
        torch.save(content, folder / "pytorch_model.bin")
        assert "holds more than a dict of names and tensors" in sentence(folder)


def test_a_folder_without_weights(folder):
    write(folder, tensors(), "safetensors")
    (folder / "pytorch_model.safetensors").rename(folder / "model.ckpt")
    assert "has no weights but model.ckpt, a pickle, which can run code" in sentence(folder)
    (folder / "model.ckpt").unlink()
    assert "has no weights; expected pytorch_model.safetensors" in sentence(folder)


def test_a_config_of_another_model(folder):
    path = folder / "config.json"
    for said, name in (({"_class_name": "MAGViTv2"}, "MAGViTv2"), ({"model_type": "llava_qwen"}, "llava_qwen"),
                       ({"architectures": ["PhiForCausalLM"], "model_type": "phi"}, "PhiForCausalLM")):  # fmt: skip
        path.write_text(json.dumps(said))
        assert re.search(f"config.json is of the model {name}; expected Showo", sentence(folder))
    path.write_text("{")
    assert "cannot be read" in sentence(folder)
    path.unlink()
    assert "has no config.json" in sentence(folder)


def test_a_config_may_say_its_class_in_any_case_or_not_at_all(tmp_path):
    for said in ({"_class_name": "SHOWO"}, {"model_type": "showo"}, {"vocab_size": 3}):
        (tmp_path / "config.json").write_text(json.dumps(said))
        assert read_config(tmp_path, "Showo") == said


def test_numbers_of_the_config_must_be_numbers(folder):
    said = json.loads((folder / "config.json").read_text())
    for name, value in (("llm_vocab_size", "40"), ("codebook_size", 0), ("num_vq_tokens", None)):
        (folder / "config.json").write_text(json.dumps({**said, name: value}))
        assert f"gives {name} as {value!r}; expected a whole number above 0" in sentence(folder)


def test_weights_of_another_size_than_the_config_says(folder):
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**said, "llm_vocab_size": 39, "vocab_size": 66, "mask_token_id": 65})
    )
    assert "has shape [67]; expected [66]; config.json and weights" in sentence(folder, words=Letters(39))


def test_the_tokenizer_must_have_phis_base_vocabulary(tmp_path):
    right = load_words(write_tokenizer(tmp_path / "right"), 50295)
    assert len(right) == 50295 and right.bos_token_id == right.eos_token_id == 50256
    with pytest.raises(UserError, match="base vocabulary of 50257 entries; expected 50295"):
        load_words(write_tokenizer(tmp_path / "gpt2", entries=50257), 50295)
    right.add_tokens(["<|soi|>"])
    with pytest.raises(UserError, match="50296 entries; expected 50295"):
        load_words(right, 50295)


def test_a_tokenizer_of_wrong_size_or_none_is_refused(folder, tmp_path):
    assert "base vocabulary of 41 entries; expected 40" in sentence(folder, words=Letters(41))
    (tmp_path / "empty").mkdir()
    assert "holds no tokenizer that can be read" in sentence(folder, words=tmp_path / "empty")
    endless = Letters(40)
    endless.eos_token_id = None
    assert "no token for the beginning or the end" in sentence(folder, words=endless)


def test_the_text_tokenizer_is_found_in_the_folder_and_beside_it(tmp_path):
    write_showo(tmp_path / "show-o")
    write_tokenizer(tmp_path / "show-o")
    inside = Showo.from_pretrained(tmp_path / "show-o")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "phi-1_5").mkdir(exist_ok=True)
        (tmp_path / "show-o" / name).rename(tmp_path / "phi-1_5" / name)
    outside = Showo.from_pretrained(tmp_path / "show-o")
    text = "a red dog, a blue cup"
    assert inside.text_ids(text) == outside.text_ids(text) and len(inside.text_ids(text)) > 10
