"""Old against re-trained verifiers: small, with verifiers that were never trained."""

from types import SimpleNamespace

import pytest
import torch

from cotlib import load
from cotlib.cli import main
from cotlib.errors import UserError
from cotlib.interfaces import FINAL
from cotlib.models.verifier import QUESTIONS, VerifierConfig
from cotlib.tables import retrained
from cotlib.tables.search import Cast, TablePlan
from cotlib.verifying import LearnedVerifier
from cotlib.world.prompts import benchmark

PROMPTS = benchmark("test")[::100]  # of three tasks
PAIR = retrained.Retrained(
    "dpo", {"orm": "zero-shot", "parm": "parm++"}
)  # stand-ins; who takes part is given below


def untrained(seed: int) -> LearnedVerifier:
    torch.manual_seed(seed)
    return LearnedVerifier(VerifierConfig(questions=QUESTIONS, ask_from=3)).eval()


class Exact:
    """Answers FINAL with the judge's own verdict."""

    questions, ask_from = (FINAL,), 0

    def __init__(self, judge):
        self.judge = judge

    def ask(self, question, prompts, images):
        metadatas = [next(m for m in PROMPTS if m["prompt"] == prompt) for prompt in prompts]
        return torch.tensor([float(v.correct) for v in self.judge(metadatas, images)])


def test_both_verifiers_choose_among_the_same_candidates(tmp_path):
    judge = load("judge")
    verifiers = {
        "orm": Exact(judge),
        "parm": untrained(0),
        "orm re-trained": Exact(judge),
        "parm re-trained": untrained(0),
    }
    who = Cast(load("generator"), judge, load("judge", kind="template"), verifiers, {})
    result = retrained.run(PROMPTS, PAIR, TablePlan(3, (0, 1)), tmp_path / "retrained.json", who=who)
    assert set(result["differences"]) == {"orm re-trained - orm", "parm re-trained - parm"}
    assert all(
        values == [0, 0, 0] for values in result["differences"].values()
    )  # the same verifiers: the same choice
    assert result["strategies"]["orm"]["prompts"] == len(PROMPTS) and result["strategies"]["orm"][
        "seeds"
    ] == [0, 1]
    assert result["cards"]["orm"]["stage"] == "zero-shot" or result["cards"]["orm"]["model"] == "verifier"
    assert "orm re-trained - orm" in retrained.text(result)


def test_a_verifier_that_learned_the_truth_is_ahead(tmp_path):
    judge = load("judge")
    lying = SimpleNamespace(questions=(FINAL,), ask_from=0, ask=lambda q, p, i: 1 - Exact(judge).ask(q, p, i))
    who = Cast(
        load("generator"),
        judge,
        load("judge", kind="template"),
        {"orm": lying, "orm re-trained": Exact(judge)},
        {},
    )
    pair = retrained.Retrained("dpo", {"orm": "orm"})
    result = retrained.run(PROMPTS, pair, TablePlan(8, (0,)), tmp_path / "retrained.json", who=who)
    assert result["differences"]["orm re-trained - orm"][0] > 0


def test_mistakes_are_one_sentence(capsys, tmp_path):
    with pytest.raises(UserError, match="the verifiers are prm; expected orm, parm or both"):
        retrained.Retrained("dpo", {"prm": "x"})
    out = ["--json", str(tmp_path / "x.json")]
    assert main(["table", "retrained", *out]) == 2
    assert "one tuned generator" in capsys.readouterr().err
    assert main(["table", "retrained", "--generators", "dpo", *out]) == 2
    assert "the verifiers are none" in capsys.readouterr().err
    assert main(["table", "retrained", "--generators", "dpo", "--verifiers", "orm=nowhere", *out]) == 2
    assert 'no verifier weights "nowhere"' in capsys.readouterr().err
