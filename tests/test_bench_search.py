"""The benchmark of whole searches: its naive form does what cotlib does, its forms search alike, its sizes are in proportion.

The naive loop is written on its own, so it is an oracle for the lean one and the other way round.
"""

import csv
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from published_showo_tools import magvit_shapes, showo_shapes

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import _published  # noqa: E402
import search  # noqa: E402
from _naive import ReleasedVerifier, Wasteful, released_orm, released_parm, released_steps  # noqa: E402
from _published import PROMPT, PUBLISHED, REDUCED, Llava, Sizes, Words, random_llava, random_showo  # noqa: E402
from _script import FIRST_CLEAR, LAST_CLEAR, Script, ScriptedVerifier  # noqa: E402

from cotlib.interfaces import CLARITY, FINAL, POTENTIAL  # noqa: E402
from cotlib.models.published.llava import LlavaVerifier, read_questions  # noqa: E402
from cotlib.models.published.magvit import MagvitConfig  # noqa: E402
from cotlib.models.published.pictures import to_pil  # noqa: E402
from cotlib.models.published.showo_layout import ShowoConfig  # noqa: E402
from cotlib.search import orm, parm  # noqa: E402
from cotlib.verifying.answers import filtered_p_yes  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
N = 5
TINY = Sizes(
    "tiny", ShowoConfig(tokens=25, codes=16, text_codes=60), width=32, layers=2, heads=2, slots=18, words=2,
    magvit=MagvitConfig((32, 32), (1, 1), (32, 32), (1, 1), 32, bits=4), llava=Llava(32, 48, 2, 4, 2, 120, 32, 40, 2, 2, 28),
)  # fmt: skip


def stronger(model: torch.nn.Module, scale: float = 0.3) -> None:
    """Weights so large that answers differ and attention matters."""
    chance = torch.Generator().manual_seed(5)
    for p in model.parameters():
        if p.ndim > 1:
            p.normal_(0, scale, generator=chance)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> search.Models:
    made = search.Models.random(TINY, torch.device("cpu"), 0.4, tmp_path_factory.mktemp("pictures"))
    stronger(made.released.phi)  # the others have the same weights
    stronger(made.loaded.model)
    return made


# ----- the naive form and cotlib do the same -------------------------------------------------------------------------


def test_best_of_n_draws_the_same_tokens_from_the_same_numbers(models):
    naive = released_orm(models.released, models.slow(Script(N, 0.4)), PROMPT, N, TINY.slots, seed=3)
    ours = orm(models.lean, [PROMPT], N, seed=3, verifier=models.fast(Script(N, 0.4)))
    assert torch.equal(naive.codes, torch.stack([path.codes for path in ours.paths[0]]))
    assert len(naive.codes.unique(dim=0)) == N and (naive.codes < models.lean.codebook_size).all()
    assert naive.chosen == ours.chosen[0]
    assert naive.ledger.decodes == N * (18 + 1) and ours.ledger.decodes == N


def test_parm_stops_and_chooses_the_same(models):
    naive_script, script = Script(N, 0.4, [[k] for k in range(N)]), Script(N, 0.4)
    naive = released_parm(models.released, models.slow(naive_script), PROMPT, N, TINY.slots, seed=3)
    ours = parm(models.lean, [PROMPT], N, seed=3, verifier=models.fast(script, remember=32))
    stopped = [k for k, path in enumerate(ours.paths[0]) if path.stopped is not None]
    assert stopped == [k for k in range(N) if not script.kept[k]] and len(stopped) == 2
    assert [ours.paths[0][k].stopped for k in stopped] == [script.clear[k] for k in stopped]
    assert naive.chosen == ours.chosen[0] and script.kept[naive.chosen]
    for k, path in enumerate(ours.paths[0]):  # a stopped path keeps the guess it was stopped at
        assert (path.stopped is None) == torch.equal(path.codes, naive.codes[k])
    assert naive_script.asked == script.asked
    assert naive_script.asked == {CLARITY: sum(c + 1 for c in script.clear), POTENTIAL: N, FINAL: N - 2}


def test_chance_of_its_own_needs_no_numbers(models):
    torch.manual_seed(0)
    first, *_, last = released_steps(models.released, PROMPT, TINY.slots)
    assert first.shape == last.shape == (TINY.showo.tokens,) and not torch.equal(first, last)
    assert last.min() >= 0 and last.max() < TINY.showo.codes


@pytest.mark.parametrize("options", [{}, {"few": True}, {"few": True, "early": True}])
@pytest.mark.parametrize("chunk", [None, 1])
def test_every_step_towards_cotlib_draws_the_same(models, options, chunk):
    between = Wasteful(models.lean, TINY.slots, chunk=chunk, **options)
    found = [
        orm(model, [PROMPT], N, seed=3, verifier=models.fast(Script(N, 0.4)))
        for model in (models.lean, between)
    ]
    codes, others = (torch.stack([path.codes for path in outcome.paths[0]]) for outcome in found)
    assert torch.equal(codes, others)


def test_the_verifier_answers_alike_in_both_ways(models, tmp_path):
    words = Words(TINY.llava.entries, TINY.words)
    lean = LlavaVerifier(models.loaded, words, read_questions())
    naive = ReleasedVerifier(lean, None, tmp_path)
    images = torch.rand(3, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    for question in (FINAL, CLARITY, POTENTIAL):
        expected = lean.logits(question, [PROMPT] * 3, images)
        for k, picture in enumerate(to_pil(images)):
            picture.save(tmp_path / "picture.png")
            p, logits = naive.answer(question, PROMPT, tmp_path / "picture.png")
            assert (logits - expected[k]).abs().max() < 1e-4 < expected.std()
            assert p == pytest.approx(filtered_p_yes(logits[None], lean.yes[0]).item(), abs=1e-5)


def test_all_forms_have_the_same_weights_and_the_released_one_its_own_activation(models):
    for own, other in zip(models.released.parameters(), models.lean.parameters(), strict=True):
        assert own is other
    assert models.half is models.released and not _published.one_gelu(models.released)


# ----- all forms search alike ------------------------------------------------------------------------------------


def test_the_script_is_read_alike_in_any_order():
    table = Script(20, 0.5)
    assert table.clear == sorted(table.clear) and Counter(table.clear) == {step: 4 for step in range(7, 12)}
    assert (FIRST_CLEAR, LAST_CLEAR) == (7, 11) and sum(table.kept) == 10
    assert len(set(table.score)) == 20

    def played(runs) -> dict:
        script, told = Script(20, 0.5, runs), {}
        for run in runs:
            waiting, step = list(run), 0
            while waiting:
                odds = script.verdicts(CLARITY, len(waiting))
                seen = [k for k, p in zip(waiting, odds, strict=True) if p == 1]
                if seen:
                    told |= {
                        k: (step, p) for k, p in zip(seen, script.verdicts(POTENTIAL, len(seen)), strict=True)
                    }
                waiting, step = [k for k in waiting if k not in told], step + 1
        kept = sum(p for _, p in told.values())
        finals = [script.verdicts(FINAL, 1)[0] for _ in range(int(kept))]
        return {"told": told, "finals": finals, "asked": script.asked}

    together, single = played([range(20)]), played([[k] for k in range(20)])
    assert together == single == played([[0], range(1, 20)])
    assert together["told"] == {k: (table.clear[k], float(table.kept[k])) for k in range(20)}
    with pytest.raises(ValueError, match="19 pictures"):
        Script(20, 0.5).verdicts(CLARITY, 19)


def test_scripted_answers_do_not_depend_on_the_batch_and_remember_the_clear_ones(models):
    images = torch.rand(N, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    for batch in (2, N):
        verifier = models.fast(Script(N, 0.4, ask_from=FIRST_CLEAR), batch=batch, remember=32)
        script = verifier.script
        odds = verifier.ask(CLARITY, [PROMPT] * N, images).tolist()
        clear = [k for k in range(N) if odds[k]]
        assert clear == [k for k in range(N) if script.clear[k] == FIRST_CLEAR] and 0 < len(clear) < N
        assert sum(len(part.keys) for part in verifier._remembered) == len(clear)
        kept = verifier.ask(POTENTIAL, [PROMPT] * len(clear), images[clear]).tolist()
        assert kept == [float(script.kept[k]) for k in clear]


def test_a_form_that_asks_otherwise_is_found_out(models):
    forms = search.parms(models)
    assert [form.same for form in forms] == [True] * (len(forms) - 1) + [False]
    odd = [forms[0], replace(forms[-1], same=True)]
    with pytest.raises(RuntimeError, match="did not search alike"):
        search.in_turn(odd, 2, 1, gpu=False)


# ----- sizes -----------------------------------------------------------------------------------------------------


def test_the_reduced_size_flatters_no_saving():
    """Wherever more would make the savings look larger it has at most a twentieth more than the published size, and nothing
    is a third off."""
    published, reduced = _published.shares(PUBLISHED), _published.shares(REDUCED)
    for name in ("pads", "attention", "head", "decoding a picture"):
        assert 0.66 * published[name] < reduced[name] < 1.05 * published[name], name
    for name in ("codes", "asking a question"):  # here less would
        assert 0.95 * published[name] < reduced[name] < 1.34 * published[name], name


def test_the_published_size_is_the_published_one():
    """Tensors as they are listed for the published files."""

    def shapes(module: torch.nn.Module) -> Counter:
        return Counter(tuple(p.shape) for p in module.parameters())

    showo = random_showo(PUBLISHED, "meta", torch.float32)
    listed = showo_shapes(width=2048, layers=24, heads=32, inner=8192)
    assert shapes(showo.phi) == Counter(map(tuple, listed.values()))
    listed = magvit_shapes(
        128, (128, 256, 256, 512, 512), (128, 128, 256, 256, 512), (4, 3, 4, 3, 4), (4, 4, 3, 4, 3), 13
    )
    assert shapes(showo.tokenizer) == Counter(map(tuple, listed.values()))
    llava = random_llava(PUBLISHED, "meta", torch.float32).model
    assert 7.9e9 < sum(p.numel() for p in llava.parameters()) < 8.1e9
    assert showo.grid == (16, 16) and showo.config.steps == 18 and PUBLISHED.slots + showo.tokens + 2 == 387


def test_stand_in_words():
    words = Words(100, 3)
    assert words("<|im_start|>user\nyes")["input_ids"][0] == 1
    assert words("yes")["input_ids"] != words("Yes")["input_ids"] != words("no")["input_ids"]
    assert len(words("a b c d")["input_ids"]) == 2 and words(["a b c d", ""])["input_ids"][1] == []


# ----- rows ------------------------------------------------------------------------------------------------------


def test_rows(models, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(search, "pick_sizes", lambda device, name: TINY)
    monkeypatch.setattr(search, "pictograms", lambda count, device: ([], 0.4))
    monkeypatch.setattr(search, "N", 2)
    file = tmp_path / "rows.csv"
    monkeypatch.setattr(sys, "argv", ["search.py", "--rounds", "2", "--csv", str(file)])
    search.main()
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    cases = Counter(row["case"] for row in rows)
    assert (
        cases == {"best-of-2": 9 + _published.one_gelu(models.lean), "PARM": 6} or torch.cuda.is_available()
    )
    for row in rows:
        low, middle, high = (float(row[name]) for name in ("seconds_20", "seconds", "seconds_80"))
        assert 0 < low <= middle <= high and 0 < float(row["verifier_s"]) < high
        first = next(r for r in rows if r["case"] == row["case"])
        assert float(row["times_as_fast"]) == pytest.approx(float(first["seconds"]) / middle, rel=0.02)
        assert row["models"] == "tiny" and row["dtype"] == "float32" and row["torch"] == torch.__version__
    assert "as released" in capsys.readouterr().out


def test_times_of_a_row():
    first, row = search.Times([4.0, 2.0, 3.0], [1.0, 1.0, 1.0]), search.Times([1.0, 0.5, 2.0], [0.5] * 3, 7e2)
    assert row.row(first) == {"seconds": "1", "seconds_20": "0.7", "seconds_80": "1.6", "times_as_fast": "3.00",
                              "verifier_s": "0.5", "peak_mb": "700"}  # fmt: skip
    assert first.row(first)["peak_mb"] == ""
    assert search.Times([2.0], [1.0]).row(first)["seconds_80"] == "2"


def test_scripted_verifier_is_a_verifier(models):
    verifier = models.fast(Script(N, 0.4))
    assert isinstance(verifier, ScriptedVerifier) and set(verifier.questions) >= {CLARITY, POTENTIAL, FINAL}
