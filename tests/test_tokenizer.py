"""The tokenizer: strictly local codes, exact packing, faithful pictures, and checkpoints that refuse to be wrong."""

import json
import shutil

import numpy as np
import pytest
import torch

from cotlib import load
from cotlib.errors import UserError
from cotlib.models.generator import GeneratorConfig
from cotlib.models.tokenizer import (
    DIGITS,
    LEVELS,
    PictogramTokenizer,
    TokenizerConfig,
    pack,
    quantise,
    unpack,
)
from cotlib.train.tokenizer import batch_of_drawings, psnr
from cotlib.world.render import render_batch
from cotlib.world.scenes import CELL, PITCH, SIZE, TINTS, Scene, Thing

SMALL = TokenizerConfig(encoder=16, wide=8, fine=8)


@pytest.fixture(scope="module")
def tokenizer() -> PictogramTokenizer:
    return load("tokenizer")


@pytest.fixture(scope="module")
def drawings() -> torch.Tensor:
    return batch_of_drawings(np.random.default_rng(77), 8)[0]


@pytest.fixture
def folder(tmp_path):
    """A small checkpoint, fresh for each test that damages it."""
    torch.manual_seed(0)
    PictogramTokenizer(SMALL).save_pretrained(tmp_path / "small", {"model": "tokenizer", "seed": 0})
    return tmp_path / "small"


# --- codes


@pytest.mark.parametrize("cell", [0, 7, 27, 63])
def test_changing_one_patch_changes_only_its_code(tokenizer, drawings, cell):
    before = tokenizer.encode(drawings)
    y, x = cell // 8 * PITCH, cell % 8 * PITCH
    changed = drawings.clone()
    changed[:, :, y : y + PITCH, x : x + PITCH] = torch.tensor([0.1, 0.3, 0.9])[:, None, None]
    after = tokenizer.encode(changed)
    others = torch.arange(64) != cell
    assert torch.equal(after[:, others], before[:, others])
    assert (after[:, cell] != before[:, cell]).all()


def test_codes_move_with_the_picture(tokenizer, drawings):
    """Rolling the picture by whole patches rolls the codes: no position, no neighbour enters them."""
    rolled = tokenizer.encode(drawings.roll((PITCH, -2 * PITCH), dims=(2, 3)))
    codes = tokenizer.encode(drawings).unflatten(1, (8, 8))
    assert torch.equal(rolled.unflatten(1, (8, 8)), codes.roll((1, -2), dims=(1, 2)))


def test_batched_codes_equal_those_of_single_pictures(tokenizer, drawings):
    alone = torch.cat([tokenizer.encode(drawings[i : i + 1]) for i in range(len(drawings))])
    assert torch.equal(alone, tokenizer.encode(drawings))


def test_patches_are_cut_in_raster_order():
    images = torch.arange(3 * SIZE * SIZE).float().reshape(1, 3, SIZE, SIZE)
    patches = PictogramTokenizer(SMALL).patches(images)
    assert patches.shape == (1, 64, 3 * PITCH * PITCH)
    second_row_third = images[0, :, PITCH : 2 * PITCH, 2 * PITCH : 3 * PITCH]
    assert torch.equal(patches[0, 8 + 2], second_row_third.flatten())


def test_pack_counts_in_base_four_and_unpack_undoes_it():
    codes = torch.arange(LEVELS**DIGITS)
    digits = unpack(codes)
    assert torch.equal(pack(digits), codes)
    assert digits.min() == 0 and digits.max() == LEVELS - 1
    for code in (0, 1, 4, 27, 512, 1023):
        assert int("".join(str(d) for d in digits[code].tolist()), 4) == code


def test_packing_keeps_leading_shapes():
    codes = torch.randint(1024, (2, 3, 5), generator=torch.Generator().manual_seed(0))
    assert unpack(codes).shape == (2, 3, 5, 5)
    assert torch.equal(pack(unpack(codes)), codes)


def test_quantise_takes_the_nearest_of_four_levels():
    z = torch.linspace(-1, 1, 2001)
    levels = torch.tensor([-1, -1 / 3, 1 / 3, 1])
    # Halfway points (-2/3, 0, 2/3) belong to either side.
    clear = (z[:, None] - torch.tensor([-2 / 3, 0, 2 / 3])).abs().amin(1) > 1e-4
    nearest = levels[(z[:, None] - levels).abs().argmin(1)]
    torch.testing.assert_close(quantise(z)[clear], nearest[clear], atol=1e-6, rtol=0)


def test_quantise_lets_the_gradient_straight_through():
    z = torch.linspace(-0.99, 0.99, 40).reshape(8, 5).requires_grad_()
    weights = torch.arange(40.0).reshape(8, 5)
    (quantise(z) * weights).sum().backward()
    assert torch.equal(z.grad, weights)


def test_every_code_has_the_vector_it_was_packed_from(tokenizer):
    codes = torch.arange(1024)[None]
    vectors = tokenizer.vectors(codes)
    assert torch.equal(pack(((vectors + 1) * 1.5).round().long()), codes)
    torch.testing.assert_close(quantise(vectors), vectors, atol=1e-6, rtol=0)


# --- pictures


def test_paper_is_one_code_for_every_tint(tokenizer):
    codes = tokenizer.encode(render_batch([Scene((), tint) for tint in range(TINTS)]))
    assert len(codes.unique()) == 1


def test_paper_code_is_the_most_common_one(tokenizer, drawings):
    paper = tokenizer.encode(render_batch([Scene(())]))[0, 0]
    assert (tokenizer.encode(drawings) == paper).float().mean() > 0.5


def test_a_thing_touches_only_the_nine_cells_of_its_box(tokenizer):
    paper = tokenizer.encode(render_batch([Scene(())]))
    codes = tokenizer.encode(render_batch([Scene((Thing("dog", "red", 16, 24),))]))
    rows, columns = np.nonzero((codes != paper).reshape(8, 8).numpy())
    inside = range(16 // PITCH, (16 + CELL) // PITCH), range(24 // PITCH, (24 + CELL) // PITCH)
    assert set(columns) <= set(inside[0]) and set(rows) <= set(inside[1])
    assert len(rows) >= 5


def test_held_out_drawings_come_back_at_34_decibels(tokenizer):
    assert psnr(tokenizer, seed=31_337, count=96) >= 34.0


def test_decoded_pictures_are_in_range(tokenizer):
    codes = torch.randint(1024, (2, 64), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        images = tokenizer.decode(codes)
    assert images.shape == (2, 3, SIZE, SIZE)
    assert images.min() >= 0 and images.max() <= 1


def test_a_few_training_steps_reduce_the_loss():
    """The gradient reaches the encoder through the rounding, and the whole learns."""
    torch.manual_seed(0)
    module = PictogramTokenizer(SMALL)
    optimizer = torch.optim.AdamW(module.parameters(), 3e-3)
    images, plain, near = batch_of_drawings(np.random.default_rng(0), 16)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = ((0.3 + 3 * near) * (module.paint(module.quantised(images)) - plain).abs()).mean()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert module.encoder[0].weight.grad.abs().max() > 0
    assert losses[-1] < 0.6 * losses[0]


# --- checkpoints


def test_saving_and_loading_gives_the_same_codes_and_pictures(tmp_path, folder, drawings):
    first = PictogramTokenizer.from_pretrained(folder)
    assert first.config == SMALL and not first.training
    first.save_pretrained(tmp_path / "again", {"seed": 0})
    second = PictogramTokenizer.from_pretrained(tmp_path / "again")
    codes = first.encode(drawings)
    assert torch.equal(second.encode(drawings), codes)
    assert torch.equal(second.decode(codes), first.decode(codes))


def test_the_shipped_card_tells_how_it_was_made(tokenizer):
    from cotlib.assets import data_dir

    card = json.loads((data_dir() / "tokenizer" / "card.json").read_text(encoding="utf-8"))
    assert {"sha256", "command", "seed", "minutes", "date", "metrics"} <= set(card)
    assert card["parameters"] == sum(p.numel() for p in tokenizer.parameters())


def refused(folder) -> str:
    """The sentence with which loading is refused."""
    with pytest.raises(UserError) as caught:
        PictogramTokenizer.from_pretrained(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "card.json"])
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert name in refused(folder)


def test_missing_folder_is_named(tmp_path):
    assert "nowhere" in refused(tmp_path / "nowhere")


def test_truncated_weights_are_refused(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    assert "truncated" in refused(folder)


def test_exchanged_weights_are_refused(tmp_path, folder):
    torch.manual_seed(1)
    PictogramTokenizer(SMALL).save_pretrained(tmp_path / "other", {"seed": 1})
    shutil.copy(tmp_path / "other" / "model.safetensors", folder / "model.safetensors")
    assert "exchanged" in refused(folder)


def test_config_of_another_model_is_refused(folder):
    order = GeneratorConfig().order
    (folder / "config.json").write_text(json.dumps({"order": order, "width": 128}), encoding="utf-8")
    assert "PictogramTokenizer" in refused(folder)


def test_config_of_another_size_is_refused(folder):
    (folder / "config.json").write_text(json.dumps({"encoder": 32}), encoding="utf-8")
    assert "PictogramTokenizer" in refused(folder)


@pytest.mark.parametrize(
    ("name", "text"), [("config.json", ""), ("config.json", "[1]"), ("card.json", ""), ("card.json", "{")]
)
def test_unreadable_json_is_refused(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")
    refused(folder)
