"""Recorded rounds: nothing in a round waits for the host, and replaying gives what playing gives.

Without a GPU a rehearsal stands in for CUDA: it keeps the work that was recorded and, at each replay, does it again with
what then lies at the recorded addresses, as a graph does.
"""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from kernel_tools import GPU, listening, needs_triton, pretend_gpu
from published_showo_tools import write_showo, write_tokenizer
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from cotlib.decoding import masked_rounds, run_steps
from cotlib.decoding.graphs import Graphs, cloned, leaves, signature
from cotlib.decoding.masked import Round, masked_places, play_round, told
from cotlib.errors import UserError
from cotlib.kernels import masked_sample, qknorm_rope_kv, remask_step
from cotlib.models.generator import GeneratorConfig, PictogramGenerator
from cotlib.models.published.showo import Showo

SHORT, OTHER, LONG = "a photo of a bus", "a photo of a cat", "a photo of a red boat"
STEPS = 4


@pytest.fixture(scope="module")
def pictogram() -> PictogramGenerator:
    torch.manual_seed(0)
    model = PictogramGenerator(GeneratorConfig(width=32, layers=2, heads=2, hidden=32, steps=STEPS))
    for block in model.blocks:
        torch.nn.init.normal_(block.out.weight, std=0.3)
    torch.nn.init.normal_(model.code_out, std=1.0)
    return model.eval()


@pytest.fixture(scope="module")
def showo(tmp_path_factory) -> Showo:
    home = tmp_path_factory.mktemp("published")
    write_tokenizer(home / "phi-1_5")
    write_showo(home / "show-o")
    return Showo.from_pretrained(home / "show-o")


class Rehearsal(Graphs):
    """Graphs on a CPU. made: recordings, played: replays."""

    made = played = 0

    def serves(self, device):
        return True

    def record(self, work):
        self.made += 1
        results = work()
        for result in results:  # nothing is computed before the first replay
            result.zero_()

        def replay():
            self.played += 1
            for result, fresh in zip(results, work(), strict=True):
                result.copy_(fresh)

        return results, replay


def drawn(model, prompts, seed=0, stop=None, **options) -> list:
    """All steps of a loop, of which `stop` = {step: rows that go on} ends some rows early."""
    loop, sent, steps = masked_rounds(model, prompts, list(range(len(prompts))), seed, **options), None, []
    while True:
        try:
            steps.append(loop.send(sent))
        except StopIteration:
            return steps
        sent = (stop or {}).get(steps[-1].index)


def same(ours: list, plain: list) -> None:
    """Equal in every bit."""
    assert len(ours) == len(plain) > 0
    for a, b in zip(ours, plain, strict=True):
        assert a.index == b.index and a.paths.equal(b.paths)
        for name in ("codes", "masked", "confidence", "log_p"):
            assert getattr(a, name).equal(getattr(b, name)), (a.index, name)


# ----- nothing waits -----------------------------------------------------------------------------------------------


def one_round(model, prompts, mode=None, **options):
    """Plays a round of a half drawn picture; mode: where there are no numbers."""
    prefix = model.prefix(prompts).select(torch.arange(len(prompts))) if mode is None else mode[1]
    n, chance = model.grid[0] * model.grid[1], torch.Generator().manual_seed(0)
    masked = torch.rand(len(prompts), n, generator=chance).argsort(1) < 6
    codes = torch.arange(n).expand(len(prompts), -1).masked_fill(masked, model.mask_id)
    tensors = codes, masked, *torch.rand(2, len(prompts), n, generator=chance)
    tensors = tensors if mode is None else [mode[0].from_tensor(x) for x in tensors]
    return play_round(model, Round(1, 6, 3, 0.5), prefix, *tensors, torch.arange(len(prompts)), **options)


@pytest.mark.parametrize("prompts", [[SHORT, SHORT], [SHORT, LONG]])
@pytest.mark.parametrize("name", ["pictogram", "showo"])
def test_a_round_waits_for_nothing(name, prompts, request):
    model = request.getfixturevalue(name)
    prefix = model.prefix(prompts).select(torch.arange(2))
    real, ids = one_round(model, prompts, at_places=True)
    with pretend_gpu() as mode:
        record, after = one_round(told(model, False), prompts, (mode, prefix), at_places=True, kernel=False)
    for got, wanted in ((record.codes, real.codes), (record.log_p, real.log_p), (after, ids)):
        assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)


@needs_triton
@pytest.mark.parametrize("name", ["pictogram", "showo"])
def test_nor_does_it_with_the_kernels(name, request):
    model, used = request.getfixturevalue(name), (masked_sample, remask_step)
    used = (*used, qknorm_rope_kv) if name == "showo" else used
    prefix = model.prefix([SHORT, LONG]).select(torch.arange(2))
    with listening(*used) as heard, pretend_gpu() as mode:
        one_round(model, [SHORT, LONG], (mode, prefix), at_places=True)
    counts = {full.split(".")[2]: len(listener.calls) for full, listener in heard.items()}
    layers = len(showo_layers(model))
    assert counts == {"masked_sample": 1, "remask_step": 1} | ({"qknorm_rope_kv": layers} if layers else {})
    for module in used:
        heard[f"{module.__name__}._kernel"].check(module.builds())


def showo_layers(model) -> list:
    return list(model.phi.model.layers) if isinstance(model, Showo) else []


@pytest.mark.parametrize("name", ["pictogram", "showo"])
def test_by_the_mask_the_model_would_wait(name, request):
    """The check can fail: the same round asked for by a mask counts its tokens."""
    model = request.getfixturevalue(name)
    prefix = model.prefix([SHORT, SHORT]).select(torch.arange(2))
    with pretend_gpu() as mode, pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
        one_round(told(model, False), [SHORT, SHORT], (mode, prefix), kernel=False)


@pytest.mark.parametrize("name", ["pictogram", "showo"])
def test_places_and_mask_ask_for_the_same(name, request):
    model = request.getfixturevalue(name)
    by_mask, by_places = (one_round(model, [SHORT, LONG], at_places=at) for at in (False, True))
    same([by_places[0]], [by_mask[0]])
    assert by_places[1].equal(by_mask[1])


def test_places_of_a_mask():
    masked = torch.tensor([[False, True, True, False, True], [True, True, False, True, False]])
    assert masked_places(masked, 3).tolist() == [[1, 2, 4], [0, 1, 3]]


# ----- recorded and replayed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pictogram", "showo"])
def test_replayed_rounds_are_played_rounds(name, request):
    """Whatever was drawn before with the same shapes: other prompts, seeds and texts of other lengths."""
    model = request.getfixturevalue(name)
    graphs = Rehearsal(model)
    runs = [([SHORT] * 3, 0), ([OTHER] * 3, 1), ([SHORT, LONG, SHORT], 2), ([SHORT] * 3, 3), ([OTHER, LONG, OTHER], 4),
            ([LONG] * 3, 5), ([LONG] * 3, 5), ([SHORT] * 3, 6)]  # fmt: skip
    ours = [drawn(model, prompts, seed, steps=STEPS, graphs=graphs) for prompts, seed in runs]
    for steps, (prompts, seed) in zip(ours, runs, strict=True):
        same(steps, drawn(model, prompts, seed, steps=STEPS))
    assert 0 < graphs.made < graphs.played


def test_a_shape_is_recorded_when_it_comes_again(pictogram):
    graphs, counts = Rehearsal(pictogram), []
    for prompts in ([SHORT] * 2, [SHORT] * 2, [OTHER] * 2, [SHORT] * 3, [LONG] * 2, [SHORT] * 2, [LONG] * 2):
        drawn(pictogram, prompts, graphs=graphs)
        counts.append((graphs.made, graphs.played))
    rounds = STEPS - 1  # the first one looks at each prompt once and is not recorded
    assert counts == [(0, 0), (rounds, rounds), (rounds, 2 * rounds), (rounds, 2 * rounds), (rounds, 2 * rounds),
                      (rounds, 3 * rounds), (2 * rounds, 4 * rounds)]  # fmt: skip


def test_a_batch_that_shrank_is_another_recording(pictogram):
    graphs, prompts = Rehearsal(pictogram), [SHORT] * 4
    stop = {1: torch.tensor([True, False, True, True]), 2: torch.tensor([False, True, True])}
    plain = [drawn(pictogram, prompts, seed, stop) for seed in (0, 1, 2)]
    assert [len(step.codes) for step in plain[0]] == [4, 4, 3, 2]
    for seed, made in ((0, 0), (1, 3), (2, 3)):
        same(drawn(pictogram, prompts, seed, stop, graphs=graphs), plain[seed])
        assert graphs.made == made  # a round each of four, three and two rows
    same(drawn(pictogram, prompts, 3, graphs=graphs), drawn(pictogram, prompts, 3))
    assert graphs.made == 3  # of four rows, two later rounds are met for the first time


def test_loops_that_take_turns_do_not_mix(pictogram):
    graphs = Rehearsal(pictogram)
    for _ in range(2):
        drawn(pictogram, [SHORT] * 2, graphs=graphs)
    loops = [masked_rounds(pictogram, [p] * 2, [0, 1], 7, graphs=graphs) for p in (SHORT, OTHER)]
    steps = list(zip(*loops, strict=True))
    for ours, prompt in zip(zip(*steps, strict=True), (SHORT, OTHER), strict=True):
        same(list(ours), drawn(pictogram, [prompt] * 2, 7))


def test_only_so_many_batches_are_kept(pictogram):
    graphs = Rehearsal(pictogram, batches=2)
    sizes = (1, 2, 3)
    for size in sizes * 2:
        drawn(pictogram, [SHORT] * size, graphs=graphs)
    assert graphs.made == 3 * (STEPS - 1)
    drawn(pictogram, [SHORT] * 3, graphs=graphs)  # still there
    assert graphs.made == 3 * (STEPS - 1)
    same(drawn(pictogram, [SHORT], 5, graphs=graphs), drawn(pictogram, [SHORT], 5))  # was dropped
    assert graphs.made == 4 * (STEPS - 1) and len(graphs._kept) == 2


def test_other_options_are_other_recordings(pictogram):
    graphs = Rehearsal(pictogram)
    for options in ({}, {"guidance": 0.0}, {"temperature": 0.5}, {"steps": 3}, {"guidance": 4.0}):
        for seed in (0, 1):
            ours = drawn(pictogram, [SHORT] * 2, seed, graphs=graphs, **options)
            same(ours, drawn(pictogram, [SHORT] * 2, seed, **options))


def test_weights_may_change_in_place_and_are_noticed_when_they_move(pictogram):
    graphs = Rehearsal(pictogram)
    for _ in range(2):
        before = drawn(pictogram, [SHORT] * 2, graphs=graphs)
    kept = pictogram.code_out.data
    try:
        pictogram.code_out.data = kept.clone()
        pictogram.code_out.data.mul_(-1)
        moved = drawn(pictogram, [SHORT] * 2, graphs=graphs)  # as if nothing had been recorded
        assert graphs.made == STEPS - 1
        drawn(pictogram, [SHORT] * 2, graphs=graphs)
        pictogram.code_out.data.mul_(-1)
        same(drawn(pictogram, [SHORT] * 2, graphs=graphs), before)
        assert graphs.made == 2 * (STEPS - 1) and not moved[-1].codes.equal(before[-1].codes)
    finally:
        pictogram.code_out.data = kept


# ----- when not ----------------------------------------------------------------------------------------------------


def test_plain_torch_means_no_graphs(pictogram):
    graphs = Rehearsal(pictogram)
    for _ in range(3):
        drawn(pictogram, [SHORT] * 2, kernel=False, graphs=graphs)
    assert graphs.made == 0 and not graphs._met


def test_there_are_none_on_a_cpu(pictogram, monkeypatch):
    graphs = Graphs(pictogram)
    monkeypatch.setattr(graphs, "run", lambda *_: pytest.fail("recorded on a CPU"))
    for _ in range(3):
        steps = drawn(pictogram, [SHORT] * 2, graphs=graphs)
    same(steps, drawn(pictogram, [SHORT] * 2))


def test_raster_order_has_no_rounds(pictogram):
    model = PictogramGenerator(GeneratorConfig("raster", width=16, layers=1, heads=2, hidden=16)).eval()
    with pytest.raises(UserError, match="raster order has no rounds to record"):
        next(run_steps(model, [SHORT], [0], 0, graphs=Graphs(model)))


@dataclass
class Named:
    """A prefix that holds something which is not copied."""

    keys: torch.Tensor
    owner: object

    def select(self, _):
        return self


def test_what_cannot_be_recorded_is_refused(pictogram):
    other = PictogramGenerator(GeneratorConfig(width=16, layers=1, heads=2, hidden=16))
    with pytest.raises(UserError, match="belong to another model; expected the one that draws"):
        drawn(other, [SHORT], graphs=Graphs(pictogram))
    table = SimpleNamespace(device="cuda", logits=None)
    with pytest.raises(UserError, match="has no hidden and head; expected both"):
        Graphs(table).ready(table)
    with pytest.raises(UserError, match="batches is 0; expected at least 1"):
        Graphs(pictogram, 0)
    with pytest.raises(
        UserError, match="a Generator cannot be recorded; expected a prefix that is a dataclass"
    ):
        drawn(
            pictogram, [SHORT], prefix=Named(torch.zeros(1), torch.Generator()), graphs=Rehearsal(pictogram)
        )


def test_a_prefix_is_taken_apart_and_put_together(pictogram):
    prefix = pictogram.prefix([SHORT, LONG])
    copy = cloned(prefix)
    parts, copies = leaves(prefix), leaves(copy)
    assert (
        len(parts) == len(copies) == 4 * len(pictogram.blocks) + 1
    )  # keys, values and those of nothing; validity
    assert all(a.equal(b) and a.data_ptr() != b.data_ptr() for a, b in zip(parts, copies, strict=True))
    assert signature(copy) == signature(prefix) and copy.guidance == prefix.guidance
    others = (pictogram.prefix([SHORT, LONG], 0.0), pictogram.prefix([SHORT]), pictogram.prefix([SHORT, LONG, LONG]),
              cloned(pictogram.prefix([SHORT, LONG], 3.0)))  # fmt: skip
    assert len({signature(p) for p in (prefix, *others)}) == 5


# ----- on a GPU ----------------------------------------------------------------------------------------------------

needs_gpu = pytest.mark.skipif(not GPU, reason="there is no GPU")


@needs_gpu
def test_on_a_gpu_replayed_rounds_are_played_rounds(pictogram):
    model = pictogram.to("cuda")
    try:
        graphs, stop = Graphs(model), {1: torch.tensor([True, False, True])}
        for prompts in ([SHORT] * 3, [OTHER] * 3, [SHORT, LONG, LONG], [OTHER] * 3, [SHORT, LONG, LONG]):
            for seed in (0, 1):
                ours = drawn(model, prompts, seed, stop, graphs=graphs)
                plain = drawn(model, prompts, seed, stop)
                for a, b in zip(ours, plain, strict=True):
                    assert a.codes.equal(b.codes) and a.masked.equal(b.masked)
                    torch.testing.assert_close(a.log_p, b.log_p, atol=1e-4, rtol=0)
        assert graphs._kept and all(batch.recorded for batch in graphs._kept.values())
    finally:
        pictogram.to("cpu")


@needs_gpu
def test_on_a_gpu_a_round_waits_for_nothing(pictogram):
    model = pictogram.to("cuda")
    try:
        prefix = model.prefix([SHORT, LONG]).select(torch.arange(2))
        shape, here = (2, 64), {"device": "cuda"}
        masked = torch.arange(64, **here).expand(2, -1) < 6
        codes = torch.zeros(shape, dtype=torch.long, **here).masked_fill(masked, model.mask_id)
        tensors = codes, masked, torch.rand(shape, **here), torch.rand(shape, **here)
        for kernel in (True, False):
            play_round(
                model, Round(1, 6, 3, 0.5), prefix, *tensors, torch.arange(2), kernel, True
            )  # compiles
            torch.cuda.set_sync_debug_mode("error")
            play_round(model, Round(1, 6, 3, 0.5), prefix, *tensors, torch.arange(2), kernel, True)
            torch.cuda.set_sync_debug_mode("default")
    finally:
        torch.cuda.set_sync_debug_mode("default")
        pictogram.to("cpu")
