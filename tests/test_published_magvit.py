"""MAGVIT-v2 against an oracle in numpy and float64 that knows convolutions, norms and attention as sums.

The weights are random and small (three levels, so 4 pixels a code, and 16 codes), in the published layout.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from published_showo_tools import header_bytes, magvit_shapes, magvit_tensors, write_magvit

from cotlib.errors import UserError
from cotlib.models.published.magvit import Magvit, MagvitConfig, SignQuantizer, prepare

BOUND = 2e-5  # of the project, for pictures against the original in float32


class Oracle:
    """The network by its description: levels, blocks and widths come from the names of the tensors alone."""

    def __init__(self, tensors):
        self.w = {name: tensor.double().numpy() for name, tensor in tensors.items()}

    def conv(self, x, name, stride=1, pad=(1, 1)):
        """3x3 or 1x1 convolution of [C, H, W]: a sum over the places of the kernel; pad: (before, after) on both axes."""
        weight = self.w[f"{name}.weight"]
        kernel = weight.shape[2]
        if kernel > 1:
            x = np.pad(x, ((0, 0), pad, pad))
        high = (x.shape[1] - kernel) // stride + 1
        wide = (x.shape[2] - kernel) // stride + 1
        out = np.zeros((weight.shape[0], high, wide))
        for i in range(kernel):
            for j in range(kernel):
                seen = x[:, i : i + stride * high : stride, j : j + stride * wide : stride]
                out += np.tensordot(weight[:, :, i, j], seen, axes=1)
        return out + self.w[f"{name}.bias"][:, None, None]

    def norm(self, x, name):
        out, size = np.empty_like(x), len(x) // 32
        for group in range(32):
            part = x[group * size : (group + 1) * size]
            out[group * size : (group + 1) * size] = (part - part.mean()) / np.sqrt(part.var() + 1e-6)
        return out * self.w[f"{name}.weight"][:, None, None] + self.w[f"{name}.bias"][:, None, None]

    def swish(self, x):
        return x / (1 + np.exp(-x))

    def block(self, x, name):
        h = self.conv(self.swish(self.norm(x, f"{name}.norm1")), f"{name}.conv1")
        h = self.conv(self.swish(self.norm(h, f"{name}.norm2")), f"{name}.conv2")
        return h + (self.conv(x, f"{name}.nin_shortcut") if f"{name}.nin_shortcut.weight" in self.w else x)

    def attention(self, x, name):
        h = self.norm(x, f"{name}.norm")
        q, k, v = (self.conv(h, f"{name}.{part}") for part in "qkv")
        out = np.zeros_like(x)
        for row in range(x.shape[1]):
            for column in range(x.shape[2]):
                scores = np.exp(np.einsum("c,cij->ij", q[:, row, column], k) / np.sqrt(len(x)))
                out[:, row, column] = np.einsum("ij,cij->c", scores / scores.sum(), v)
        return x + self.conv(out, f"{name}.proj_out")

    def middle(self, x, name):
        return self.block(
            self.attention(self.block(x, f"{name}.block_1"), f"{name}.attn_1"), f"{name}.block_2"
        )

    def blocks(self, x, name):
        count = 0
        while f"{name}.block.{count}.conv1.weight" in self.w:
            x = self.block(x, f"{name}.block.{count}")
            count += 1
        assert count
        return x

    def encoded(self, x):
        """Picture [3, H, W] in -1..1 to the numbers [bits, h, w] whose signs are the code."""
        x, level = self.conv(x, "encoder.conv_in"), 0
        while f"encoder.down.{level}.block.0.conv1.weight" in self.w:
            x = self.blocks(x, f"encoder.down.{level}")
            if f"encoder.down.{level}.downsample.conv.weight" in self.w:
                x = self.conv(x, f"encoder.down.{level}.downsample.conv", stride=2, pad=(0, 1))
            level += 1
        x = self.middle(x, "encoder.mid")
        return self.conv(
            self.conv(self.swish(self.norm(x, "encoder.norm_out")), "encoder.conv_out"), "encoder.quant_conv"
        )

    def painted(self, z):
        """Code vectors [bits, h, w] to a picture [3, H, W], about -1..1."""
        x = self.middle(self.conv(self.conv(z, "decoder.post_quant_conv"), "decoder.conv_in"), "decoder.mid")
        for level in (2, 1, 0):
            x = self.blocks(x, f"decoder.up.{level}")
            if level:
                x = self.conv(x.repeat(2, axis=1).repeat(2, axis=2), f"decoder.up.{level}.upsample.conv")
        return self.conv(self.swish(self.norm(x, "decoder.norm_out")), "decoder.conv_out")


@pytest.fixture(scope="module")
def tensors():
    return magvit_tensors()


@pytest.fixture(scope="module")
def oracle(tensors):
    return Oracle(tensors)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "magvitv2"
    write_magvit(folder)
    return Magvit.from_pretrained(folder)


def random_pictures(count: int, high: int = 16, wide: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, high, wide, generator=torch.Generator().manual_seed(5))


# ----- the published sizes -----------------------------------------------------------------------------------------


def published_shapes() -> dict[str, list[int]]:
    """All tensors of the published file, by the numbers of its description."""
    halves = magvit_shapes(128, [128 * m for m in (1, 2, 2, 4, 4)], [128 * m for m in (1, 1, 2, 2, 4)],
                           (4, 3, 4, 3, 4), (4, 4, 3, 4, 3), 13)  # fmt: skip
    return {**halves, "quantize.embedding": [8192, 13], "quantize.power_vals": [13]}


def test_the_published_file_has_exactly_these_tensors():
    shapes = published_shapes()
    with torch.device("meta"):
        made = Magvit()
    assert {name: list(t.shape) for name, t in made.state_dict().items()} == shapes
    tensors, file = header_bytes(shapes, {"quantize.power_vals": "I64"})
    assert len(shapes) == 382 and 381_974_104 in (tensors, file)
    millions = [sum(p.numel() for p in half.parameters()) / 1e6 for half in (made.encoder, made.decoder)]
    assert np.allclose(millions, [55.4, 39.9], atol=0.06)
    assert made.patch == 16 and made.codebook_size == 8192


def test_sizes_are_read_off_the_tensors(model):
    assert model.config == MagvitConfig((32, 64, 64), (2, 1, 1), (32, 32, 64), (1, 2, 1), 32, 4)
    assert {
        name: list(t.shape) for name, t in model.state_dict().items() if "quantize" not in name
    } == magvit_shapes()
    assert not model.training and model.patch == 4


def test_a_published_width_with_lost_blocks_is_not_taken_for_a_smaller_model():
    from pathlib import Path

    from cotlib.models.published.files import Weights

    shapes = {name: tuple(shape) for name, shape in published_shapes().items()}
    whole = MagvitConfig.of(Weights(Path("here"), shapes, {}))
    lost = {name: shape for name, shape in shapes.items() if ".down.4.block.3." not in name}
    assert whole == MagvitConfig.of(Weights(Path("here"), lost, {})) == MagvitConfig()


# ----- codes and pictures ------------------------------------------------------------------------------------------


def test_the_first_channel_is_the_highest_bit_and_zero_counts_as_minus():
    quantizer = SignQuantizer(4)
    z = torch.tensor([[1.0, -1.0, 0.0, 3.0], [-2.0, 2.0, 0.0, 1e-9]])[:, :, None, None]
    assert quantizer.codes(z).tolist() == [[0b1001], [0b0101]]
    assert quantizer.vectors(torch.tensor([[0b1001]]), (1, 1)).flatten().tolist() == [1, -1, -1, 1]
    assert SignQuantizer(13).power_vals[0] == 4096


def test_codes_equal_those_of_the_oracle(model, oracle):
    images = random_pictures(4)
    codes = model.encode(images)
    assert codes.shape == (4, 16) and codes.dtype == torch.long
    for image, own in zip(images, codes.tolist(), strict=True):
        z = oracle.encoded(image.double().numpy() * 2 - 1)
        exact = [
            int("".join("1" if number > 0 else "0" for number in z[:, i, j]), 2)
            for i in range(4)
            for j in range(4)
        ]
        assert own == exact
    assert len(codes.unique()) > 4


def test_numbers_before_the_signs_equal_the_oracles(model, oracle):
    image = random_pictures(1)
    with torch.no_grad():
        ours = model.encoder(image * 2 - 1)[0]
    assert np.abs(ours.double().numpy() - oracle.encoded(image[0].double().numpy() * 2 - 1)).max() < BOUND


def test_pictures_equal_those_of_the_oracle(model, oracle):
    codes = torch.randint(16, (2, 16), generator=torch.Generator().manual_seed(2))
    painted, decoded = model.paint(codes), model.decode(codes)
    assert painted.shape == decoded.shape == (2, 3, 16, 16)
    for own, shown, row in zip(painted, decoded, codes.tolist(), strict=True):
        z = np.array([[1.0 if bit == "1" else -1.0 for bit in f"{code:04b}"] for code in row]).T.reshape(
            4, 4, 4
        )
        exact = oracle.painted(z)
        assert np.abs(own.double().numpy() - exact).max() < BOUND < exact.std()
        assert np.abs(shown.double().numpy() - np.clip(exact / 2 + 0.5, 0, 1)).max() < BOUND


def test_pictures_that_are_no_squares(model, oracle):
    images = random_pictures(1, 8, 20)
    codes = model.encode(images)
    assert codes.shape == (1, 10)
    assert model.decode(codes, (2, 5)).shape == (1, 3, 8, 20)
    z = oracle.encoded(images[0].double().numpy() * 2 - 1)
    assert codes[0, 5] == sum(
        8 >> c for c in range(4) if z[c, 1, 0] > 0
    )  # raster order: the second row begins at 5
    with pytest.raises(UserError, match="10 codes a picture do not fill"):
        model.decode(codes)
    with pytest.raises(UserError, match="do not fill a grid of 2 by 4"):
        model.decode(codes, (2, 4))


@pytest.mark.parametrize("shape", [(1, 3, 16, 18), (1, 1, 16, 16), (3, 16, 16)])
def test_pictures_of_a_wrong_shape_are_refused(model, shape):
    with pytest.raises(UserError, match="multiples of 4"):
        model.encode(torch.zeros(shape))


def test_chunks_change_nothing(model):
    images = random_pictures(5)
    model.chunks.size = 2
    try:
        codes = model.encode(images)
        pictures = model.decode(codes)
    finally:
        model.chunks.size = None
    assert torch.equal(codes, model.encode(images)) and torch.allclose(
        pictures, model.decode(codes), atol=BOUND
    )


@pytest.mark.parametrize(("dtype", "close"), [("bf16", 0.1), ("fp16", 0.02)])
def test_half_precision_decodes_nearly_the_same(model, tmp_path, dtype, close):
    write_magvit(tmp_path)
    half = Magvit.from_pretrained(tmp_path, dtype=dtype)
    codes = model.encode(random_pictures(2))
    assert half.quantize.power_vals.dtype == torch.long and half.decode(codes).dtype == torch.float32
    assert (half.decode(codes) - model.decode(codes)).abs().max() < close
    assert half.encode(random_pictures(2)).shape == codes.shape


def test_the_table_of_the_file_is_used(tmp_path):
    """Decoding looks codes up in the file's own table, as the original does."""
    from safetensors.torch import save_file

    tensors = write_magvit(tmp_path)
    model, codes = Magvit.from_pretrained(tmp_path), torch.arange(16)[None]
    save_file(
        {**tensors, "quantize.embedding": tensors["quantize.embedding"].flip(0)},
        tmp_path / "pytorch_model.safetensors",
    )
    assert torch.equal(Magvit.from_pretrained(tmp_path).paint(codes), model.paint(15 - codes))


# ----- pictures in and out -----------------------------------------------------------------------------------------


def test_pictures_are_cut_to_the_middle_square():
    wide = Image.new("RGB", (40, 16), "red")
    wide.paste((0, 0, 255), (12, 0, 28, 16))
    ready = prepare([wide], 16)
    assert ready.shape == (1, 3, 16, 16)
    assert ready[0, 2].min() == 1 and ready[0, 0].max() == 0  # the blue middle alone


@pytest.mark.parametrize(
    ("size", "scaled"),
    [((50, 33), (24, 16)), ((33, 50), (16, 24)), ((16, 16), (16, 16)), ((64, 64), (16, 16))],
)
def test_the_shorter_side_is_scaled_by_bicubic(size, scaled):
    chance = np.random.default_rng(0)
    image = Image.fromarray(chance.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    exact = np.asarray(image.resize(scaled, Image.Resampling.BICUBIC)).astype(float) / 255
    top, left = (scaled[1] - 16) // 2, (scaled[0] - 16) // 2
    assert np.allclose(prepare([image], 16)[0].permute(1, 2, 0), exact[top : top + 16, left : left + 16])


def test_pictures_of_any_mode_become_rgb():
    grey = Image.new("L", (16, 16), 51)
    clear = Image.new("RGBA", (16, 16), (255, 0, 0, 10))
    ready = prepare([grey, clear], 16)
    assert torch.allclose(ready[0], torch.tensor(0.2)) and ready[1, :, 0, 0].tolist() == [1, 0, 0]


# ----- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["encoder.down.1.block.0.norm2.bias", "decoder.up.2.upsample.conv.weight", "quantize.power_vals",
                                  "encoder.quant_conv.weight", "decoder.post_quant_conv.bias"])  # fmt: skip
def test_a_missing_tensor_is_named(tmp_path, name):
    from safetensors.torch import save_file

    tensors = write_magvit(tmp_path)
    del tensors[name]
    save_file(tensors, tmp_path / "pytorch_model.safetensors")
    with pytest.raises(UserError, match=name):
        Magvit.from_pretrained(tmp_path)


@pytest.mark.parametrize("half", ["encoder.", "decoder.up.", "decoder.up.1."])
def test_a_file_without_a_whole_part_is_refused(tmp_path, half):
    from safetensors.torch import save_file

    rest = {name: tensor for name, tensor in write_magvit(tmp_path).items() if not name.startswith(half)}
    save_file(rest, tmp_path / "pytorch_model.safetensors")
    with pytest.raises(UserError, match=f"lack '{half}.*expected those of MAGVIT-v2"):
        Magvit.from_pretrained(tmp_path)


def test_a_tensor_too_many_is_named(tmp_path):
    from safetensors.torch import save_file

    save_file(
        {**write_magvit(tmp_path), "loss.discriminator.weight": torch.zeros(2)},
        tmp_path / "pytorch_model.safetensors",
    )
    with pytest.raises(UserError, match=r"1 tensor left over \(loss.discriminator.weight\)"):
        Magvit.from_pretrained(tmp_path)


def test_another_models_folder_is_refused(tmp_path):
    write_magvit(tmp_path)
    (tmp_path / "config.json").write_text('{"_class_name": "VQModel"}')
    with pytest.raises(UserError, match="of the model VQModel; expected MAGViTv2"):
        Magvit.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(
        '{"_class_name": "magvitV2"}'
    )  # the published files spell it both ways
    Magvit.from_pretrained(tmp_path)


def test_widths_that_no_norm_can_group_are_refused():
    with pytest.raises(UserError, match="48 channels; expected a multiple of 32"):
        Magvit(MagvitConfig((48,), (1,), (32,), (1,), 48, 2))
