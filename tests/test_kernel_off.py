"""One argument turns all kernels off, in every strategy, loop and loss."""

import pytest
import torch
from test_search import PROMPTS, StubModel, StubVerifier

from cotlib.align.dpo import DPOConfig, draw_batch, pair_loss
from cotlib.align.guided import GuidedConfig, draw_group, path_log_probability, reward_term
from cotlib.align.pairs import Pairs, PicturesPlan, draw_pairs, draw_pictures
from cotlib.align.tuning import Validation, tune
from cotlib.decoding import run_steps
from cotlib.interfaces import POTENTIAL, Reflection, Verdict
from cotlib.kernels import linear_logprob, masked_sample, remask_step
from cotlib.models.generator import GeneratorConfig, PictogramGenerator
from cotlib.search import STRATEGIES, redraw
from cotlib.search.decisions import decide
from cotlib.search.paths import draw
from cotlib.search.released import RELEASED
from cotlib.world.prompts import parse_prompt, prompt_pool

TRAIN = list(prompt_pool("train", "colors")[:4])


@pytest.fixture
def asked(monkeypatch) -> list[bool]:
    """What every kernel was told: True for Triton where there is a GPU."""
    told: list[bool] = []
    for module in (masked_sample, remask_step, linear_logprob):
        monkeypatch.setattr(module, "chosen", lambda kernel, *_: told.append(kernel) or False)
    return told


def all_of(asked: list[bool], work) -> set[bool]:
    """What the kernels were told during the work; they were asked at least once."""
    asked.clear()
    work()
    assert asked
    return set(asked)


def judge(metadatas, images):
    """The first picture of four is right."""
    return [Verdict(i % 4 == 0) for i in range(len(images))]


def searches() -> dict:
    """Every strategy, the released code's, and PRM's record, as functions of further options."""
    found = {}
    for name, strategy in {**STRATEGIES, **{f"released {n}": s for n, s in RELEASED.items()}}.items():
        options = {}
        if getattr(strategy, "verifier", None) or "orm" in name or "parm" in name:
            refuses = (
                {POTENTIAL: lambda *_: 0.1} if name == "parm" else {}
            )  # so that PARM draws one path anew
            options["verifier"] = StubVerifier(reflect=lambda *_: Reflection(False), **refuses)
        if getattr(strategy, "judge", False):
            options |= {"judge": judge, "metadatas": [{}] * len(PROMPTS)}
        if getattr(strategy, "corrects", False):
            options["correct"] = redraw
        found[name] = lambda s=strategy, o=options, **more: s(StubModel(), PROMPTS, n=4, seed=0, **o, **more)
    for rules in ("orm", "parm"):
        found[f"{rules} by the released rules"] = lambda s=STRATEGIES[rules], **more: s(
            StubModel(), PROMPTS, n=4, seed=0, verifier=StubVerifier(), paper_compatible=True, **more
        )
    found["decide"] = lambda **more: decide(StubModel(), PROMPTS, 3, 0, verifier=StubVerifier(), **more)
    found["draw"] = lambda **more: draw(StubModel(), PROMPTS, 3, **more)
    found["raster"] = lambda **more: draw(StubModel("raster"), PROMPTS, 3, **more)
    return found


@pytest.mark.parametrize("name", searches())
def test_in_every_search(name, asked):
    search = searches()[name]
    assert all_of(asked, search) == {True}
    assert all_of(asked, lambda: search(kernel=False)) == {False}


def test_corrections_are_told_only_where_the_search_was(asked):
    """So that one which knows no such argument can be used wherever nobody turned the kernels off."""
    seen = []

    def correct(*_, **options):
        seen.append(options)
        return redraw(*_, **options)

    verifier = StubVerifier(reflect=lambda *_: Reflection(False))
    for more, told in (({}, {None}), ({"kernel": True}, {None}), ({"kernel": False}, {False})):
        seen.clear()
        STRATEGIES["parm++"](StubModel(), PROMPTS, n=3, seed=0, verifier=verifier, correct=correct, **more)
        assert {options.get("kernel") for options in seen} == told


# ----- preference tuning -------------------------------------------------------------------------------------------


def tiny(order: str = "masked") -> PictogramGenerator:
    torch.manual_seed(0)
    model = PictogramGenerator(
        GeneratorConfig(order, width=16, layers=1, heads=2, hidden=16, grid=2, codes=4, steps=3)
    )
    model.decode = lambda codes: codes
    return model.eval()


def some_pairs() -> Pairs:
    return Pairs(TRAIN[:3], torch.zeros(3, 4, dtype=torch.long), torch.ones(3, 4, dtype=torch.long), {})


def twos(model, prompts, steps):
    return (steps[-1].codes == 2).float().mean(1)


@pytest.mark.parametrize("order", ["masked", "raster"])
def test_in_every_loss(order, asked):
    model, config = tiny(order), DPOConfig(batch=2, updates=2)
    batch = draw_batch(some_pairs(), torch.arange(3), config, order, torch.Generator().manual_seed(0))
    texts, steps = draw_group(model, TRAIN[:2], 3, 0, 0)
    guided = GuidedConfig(prompts=1, each=2, rounds=1)
    held = Validation([parse_prompt(TRAIN[3])], judge, pictures=2, every=1)
    works = {
        "pair_loss": lambda **more: pair_loss(model, tiny(order), batch, config, 1.0, **more),
        "draw_group": lambda **more: draw_group(model, TRAIN[:2], 3, 0, 0, **more),
        "path_log_probability": lambda **more: path_log_probability(model, texts, steps, **more),
        "reward_term": lambda **more: reward_term(twos, guided, **more)(model, tiny(order), TRAIN, 0),
        "tune": lambda **more: tune(model, some_pairs(), config, validation=held,
                                    extra=reward_term(twos, guided, **more), what={}, **more),
    }  # fmt: skip
    for name, work in works.items():
        assert all_of(asked, work) == {True}, name
        assert all_of(asked, lambda work=work: work(kernel=False)) == {False}, name


def test_in_drawing_pairs(asked, tmp_path):
    model, plan = tiny(), PicturesPlan(jobs=2, each=2, chunk=1)
    for kernel in (True, False):
        assert all_of(asked, lambda k=kernel: draw_pairs(model, judge, 3, 4, 0, kernel=k)) == {kernel}
        folder = tmp_path / str(kernel)
        assert all_of(asked, lambda k=kernel, f=folder: draw_pictures(model, judge, plan, f, kernel=k)) == {
            kernel
        }


@pytest.mark.parametrize("order", ["masked", "raster"])
def test_in_both_loops(order, asked):
    for kernel in (True, False):
        assert all_of(asked, lambda k=kernel: list(run_steps(tiny(order), TRAIN, [0] * 4, 0, kernel=k))) == {
            kernel
        }
