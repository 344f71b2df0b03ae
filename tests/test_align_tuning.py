"""The tuning loop: resumed runs, early stop, no numbers, shuffling (flaw 6 of the released code in miniature)."""

import os
import socket
import subprocess
import sys

import pytest
import torch

from cotlib.align.dpo import DPOConfig
from cotlib.align.pairs import Pairs
from cotlib.align.tuning import STATE, Diverged, Validation, next_pairs, truth, tune
from cotlib.errors import UserError
from cotlib.interfaces import Verdict
from cotlib.models.generator import GeneratorConfig, PictogramGenerator
from cotlib.world.prompts import benchmark, parse_prompt, prompt_pool

PROMPTS = list(prompt_pool("train", "colors")[:8])
HELD = [parse_prompt(p) for p in prompt_pool("train", "two_object")[:2]]
CONFIG = DPOConfig(batch=4, updates=7, lr=1e-2, dropped_text=0.2)


def tiny(order: str = "masked", seed: int = 0) -> PictogramGenerator:
    torch.manual_seed(seed)
    model = PictogramGenerator(
        GeneratorConfig(order=order, width=16, layers=1, heads=2, hidden=16, grid=2, codes=16, steps=2)
    )
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model.eval()


def some_pairs(count: int = 10) -> Pairs:
    """Chosen pictures are made of codes below 8, rejected ones of the others."""
    chance = torch.Generator().manual_seed(5)
    chosen, rejected = (torch.randint(0, 8, (count, 4), generator=chance) for _ in range(2))
    return Pairs([PROMPTS[i % len(PROMPTS)] for i in range(count)], chosen, rejected + 8, {})


class LowIsRight:
    """A picture, here its codes, is right when most of them are below 8."""

    def __call__(self, metadatas, images):
        return [Verdict(bool((codes < 8).float().mean() > 0.5)) for codes in images]


def watched(model: PictogramGenerator, **options) -> tuple[PictogramGenerator, Validation]:
    model.decode = _as_it_is
    return model, Validation(HELD, LowIsRight(), **options)


def _as_it_is(codes):
    return codes


class Killed(Exception):
    pass


def kill_at(update: int):
    def watch(number, curves):
        if number == update:
            raise Killed

    return watch


@pytest.mark.parametrize("order", ["masked", "raster"])
def test_a_killed_run_goes_on_with_the_same_curve(tmp_path, order):
    model, validation = watched(tiny(order), pictures=3, every=2, patience=0)
    options = {"seed": 3, "validation": validation, "save_every": 2}
    whole = tune(model, some_pairs(), CONFIG, **options)
    with pytest.raises(Killed):
        tune(model, some_pairs(), CONFIG, watch=kill_at(4), folder=tmp_path, **options)
    seen = []
    again = tune(model, some_pairs(), CONFIG, watch=lambda number, curves: seen.append(number), folder=tmp_path,
                 resume=True, **options)  # fmt: skip
    assert seen == [4, 5, 6]  # the state of four updates was kept
    assert again.curves == whole.curves and [c["update"] for c in whole.curves] == list(range(7))
    assert again.update == whole.update and again.truth == whole.truth
    for (name, a), (_, b) in zip(
        again.model.state_dict().items(), whole.model.state_dict().items(), strict=True
    ):
        assert torch.equal(a, b), name
    assert not list(tmp_path.glob("*.tmp"))
    torch.load(tmp_path / STATE, weights_only=True)


def test_states_of_other_runs_and_damaged_ones_are_refused(tmp_path):
    tune(tiny(), some_pairs(), CONFIG, folder=tmp_path)
    for change in ({"seed": 1}, {"reference": tiny(seed=2)}, {"what": {"weight": 1}}):
        with pytest.raises(UserError, match="belongs to a run with other"):
            tune(tiny(), some_pairs(), CONFIG, folder=tmp_path, resume=True, **change)
    with pytest.raises(UserError, match="belongs to a run with other"):
        tune(tiny(), some_pairs(9), CONFIG, folder=tmp_path, resume=True)
    (tmp_path / STATE).write_bytes(b"no state")
    with pytest.raises(UserError, match="cannot be read"):
        tune(tiny(), some_pairs(), CONFIG, folder=tmp_path, resume=True)


def test_no_number_stops_the_run_and_keeps_the_last_good_weights(tmp_path):
    good = tune(tiny(), some_pairs(), DPOConfig(**{**vars(CONFIG), "updates": 3}))

    def poison(policy, reference, prompts, update):
        return policy.code_out.sum() * (float("nan") if update == 3 else 0.0), {}

    with pytest.raises(Diverged, match=r"the loss is nan .* at update 3 .*resume.pt") as caught:
        tune(tiny(), some_pairs(), CONFIG, extra=poison, folder=tmp_path, save_every=100)
    kept = caught.value.tuned
    assert kept.update == 3 and len(kept.curves) == 3
    assert all(torch.equal(v, good.model.state_dict()[k]) for k, v in kept.model.state_dict().items())
    assert torch.load(tmp_path / STATE, weights_only=True)["update"] == 3
    rest = tune(tiny(), some_pairs(), CONFIG, folder=tmp_path, resume=True)  # without the poison it goes on
    assert rest.curves == tune(tiny(), some_pairs(), CONFIG).curves


def test_a_gradient_that_is_no_number_stops_the_run_too():
    def poison(policy, reference, prompts, update):
        return (policy.code_out * 0).abs().sqrt().sum(), {}  # value 0, gradient 0 * infinity

    with pytest.raises(Diverged, match="at update 0"):
        tune(tiny(), some_pairs(), CONFIG, extra=poison)


def test_truth_rises_and_the_best_weights_are_kept():
    model, validation = watched(tiny(), pictures=20, every=5, patience=0)
    before = truth(model, validation)
    tuned = tune(model, some_pairs(), DPOConfig(batch=8, updates=30, lr=2e-2), validation=validation)
    assert tuned.curves[0]["truth_before"] == before
    measured = [c["truth"] for c in tuned.curves if "truth" in c]
    assert len(measured) == 6 and tuned.truth == max(measured) > before + 0.2
    tuned.model.decode = _as_it_is
    assert truth(tuned.model, validation) == tuned.truth


def test_tuning_stops_when_truth_no_longer_rises():
    model, validation = watched(tiny(), every=1, patience=2)
    model.decode = lambda codes: codes * 0 + 9  # wrong whatever is drawn
    tuned = tune(model, some_pairs(), DPOConfig(batch=4, updates=50), validation=validation)
    assert len(tuned.curves) == 2 and tuned.update == 0 and tuned.truth == 0.0
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in tuned.model.state_dict().items())


def test_what_cannot_be_tuned_on_is_refused():
    empty = Pairs([], torch.zeros(0, 4, dtype=torch.long), torch.zeros(0, 4, dtype=torch.long), {})
    with pytest.raises(UserError, match="there are no pairs"):
        tune(tiny(), empty, CONFIG)
    other = Pairs(PROMPTS[:1], torch.zeros(1, 9, dtype=torch.long), torch.zeros(1, 9, dtype=torch.long), {})
    with pytest.raises(UserError, match="codes have shapes"):
        tune(tiny(), other, CONFIG)
    with pytest.raises(UserError, match="has shape|order"):
        tune(tiny(), some_pairs(), CONFIG, reference=tiny("raster"))
    held = next(m["prompt"] for m in benchmark("test") if m["tag"] == "two_object")
    with pytest.raises(UserError, match="kept for the test prompts"):
        tune(tiny(), Pairs([held] * 10, some_pairs().chosen, some_pairs().rejected, {}), CONFIG)
    with pytest.raises(UserError, match="stands in the validation prompts and in a pair"):
        tune(tiny(), some_pairs(), CONFIG, validation=Validation([parse_prompt(PROMPTS[0])], LowIsRight()))
    with pytest.raises(UserError, match="validation has 0 prompts"):
        Validation([], LowIsRight())


def test_pairs_are_shuffled_in_every_epoch_and_none_comes_twice_in_one():
    """Flaw 6: the released loader gives every process the same pairs, in the order of the file, where a prompt's pairs
    stand together. So a batch is nearly one prompt, and eight processes do one process's work."""
    prompts = torch.arange(40).repeat_interleave(4)  # of 160 pairs, as a file holds them
    in_file_order = torch.arange(160)[:8]
    assert len(prompts[in_file_order].unique()) == 2
    order, chance = torch.empty(0, dtype=torch.long), torch.Generator().manual_seed(0)
    batches = []
    for _ in range(40):
        picked, order = next_pairs(order, 160, 8, chance)
        batches.append(picked)
    assert sum(len(prompts[b].unique()) for b in batches) / 40 > 7
    epochs = [torch.cat(batches[:20]), torch.cat(batches[20:])]
    assert all(torch.equal(epoch.sort().values, torch.arange(160)) for epoch in epochs)
    assert not torch.equal(*epochs)
    mine, theirs = batches[0][0::2], batches[0][1::2]  # of two processes
    assert not set(mine.tolist()) & set(theirs.tolist())


SCRIPT = """
import sys; sys.path.insert(0, "tests")
from test_align_tuning import *
from cotlib.several import join_training, rank, wait
join_training()
model, validation = watched(tiny(), pictures=3, every=2, patience=0)
tuned = tune(model, some_pairs(), CONFIG, seed=3, validation=validation)
if rank() == 0:
    torch.save(tuned.curves, sys.argv[1])
wait()
"""


def test_two_processes_give_the_curve_of_one(tmp_path):
    script, out = tmp_path / "two.py", tmp_path / "curves.pt"
    script.write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1",
              "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": "."}  # fmt: skip
    processes = [
        subprocess.Popen([sys.executable, str(script), str(out)], env=os.environ | shared | {"RANK": number})
        for number in "01"
    ]  # what torchrun starts
    try:
        assert [process.wait(timeout=120) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    model, validation = watched(tiny(), pictures=3, every=2, patience=0)
    alone = tune(model, some_pairs(), CONFIG, seed=3, validation=validation).curves
    for one, two in zip(alone, torch.load(out, weights_only=True), strict=True):
        assert one == pytest.approx(two, abs=1e-4)
