"""Published models from the command line, on tiny checkpoints in the published formats: the same strategies, ledger and files
as with pictograms, and one sentence for everything that is wrong.
"""

import contextlib
import json
import shutil
import sys
import types
from pathlib import Path

import pytest
import torch
from PIL import Image
from published_showo_tools import write_magvit, write_showo, write_tokenizer
from published_tools import write_judge, write_llava
from safetensors.torch import load_file, save_file

from cotlib import evaluation
from cotlib.cli import main
from cotlib.decoding import sample_masked
from cotlib.interfaces import FINAL
from cotlib.judging import mask2former
from cotlib.judging.geneval import GenEvalJudge
from cotlib.models.published.llava import LlavaVerifier
from cotlib.models.published.pictures import to_pil
from cotlib.models.published.planner import plan_for
from cotlib.models.published.showo import Showo
from cotlib.search.released import released_orm, released_parm

PROMPT = "a photo of a bench"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    write_showo(folder / "show-o")
    write_magvit(folder / "magvitv2", bits=13)
    write_tokenizer(folder / "phi-1_5")
    write_llava(folder / "llava")
    write_judge(folder / "judge")
    return folder


@pytest.fixture(scope="module")
def showo(home):
    return Showo.from_pretrained(home / "show-o")


@pytest.fixture(scope="module")
def metadata(home, showo):
    """Six prompts, one a task, that ask for what the judge sees in the pictures of the even ones, and for what it does not see
    in the others: so both verdicts are there."""
    found = GenEvalJudge.from_pretrained(home / "judge").detector.detect(
        showo.decode(sample_masked(showo, [PROMPT], [0], 0, steps=3))
    )
    seen = {thing.cls for thing in found[0] if thing.score > 0.3}
    missing = sorted(set(mask2former.CLASSES) - seen)
    asked = [sorted(seen)[0], missing[0]]
    return [{"tag": tag, "include": [{"class": asked[i % 2], "count": 1}], "prompt": PROMPT + "!" * (i // 2 * 2)}
            for i, tag in enumerate(("single_object", "two_object", "colors", "position", "counting", "color_attr"))]  # fmt: skip


@pytest.fixture(autouse=True)
def small_judge(monkeypatch):
    """Pictures are scaled to 96 pixels instead of 800, so that a test takes no time."""
    monkeypatch.setattr(mask2former, "SHORT", 96)
    monkeypatch.setattr(mask2former, "LONG", 160)


def write_lines(path: Path, lines: list[dict]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def complaints(capsys) -> list[str]:
    """What was said to the user, without what other libraries print while they load."""
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("cotlib: ")]


def generate(home, out: Path, *more, prompt=PROMPT, model="show-o") -> int:
    return main(
        ["generate", prompt, "--model", str(home / model), "--steps", "3", "--out", str(out), *map(str, more)]
    )


def evaluate(home, out: Path, prompts, *more, model="show-o") -> int:
    path = prompts if isinstance(prompts, Path) else write_lines(out.with_suffix(".prompts"), prompts)
    return main(["evaluate", "--model", str(home / model), "--prompts", str(path), "--steps", "3", "--json", str(out),
                 *map(str, more)])  # fmt: skip


# ----- generate -----------------------------------------------------------------------------------------------------


def test_pictures_of_show_o_are_those_of_its_own_loop(home, showo, tmp_path, capsys):
    assert generate(home, tmp_path, "-n", 3, "--seed", 7, prompt="anything at all, in free words") == 0
    assert "no judge" in capsys.readouterr().out
    result = read(tmp_path / "result.json")
    assert result["judge"] is None and result["pictures"] == [{"file": f"path_0{k}.png"} for k in range(3)]
    codes = sample_masked(showo, ["anything at all, in free words"] * 3, [0, 1, 2], 7, steps=3)
    for number, picture in enumerate(to_pil(showo.decode(codes))):
        drawn = Image.open(tmp_path / f"path_0{number}.png")
        assert drawn.mode == "RGB" and drawn.tobytes() == picture.tobytes()


ASKED = {"single": set(), "logprob": set(), "orm-zs": {"FINAL"}, "orm": {"FINAL"}, "prm-zs": {"FINAL"}, "prm": {"STEP"},
         "parm": {"CLARITY", "POTENTIAL", "FINAL"}, "halving": {"POTENTIAL", "FINAL"}}  # fmt: skip


@pytest.mark.parametrize("strategy", ASKED)
def test_every_strategy_searches_with_published_models(home, tmp_path, strategy, capsys):
    given = ["--verifier", home / "llava"] if ASKED[strategy] else []
    assert generate(home, tmp_path, "-n", 4, "--strategy", strategy, *given) == 0
    result, said = read(tmp_path / "result.json"), complaints(capsys)
    calls = set(result["ledger"]["verifier_calls"])
    assert calls <= ASKED[strategy] and bool(calls) == bool(ASKED[strategy]) and said == []
    assert sum(path["chosen"] for path in result["paths"]) == 1
    assert result["chosen"] == f"path_0{[p['chosen'] for p in result['paths']].index(True)}.png"


def test_orm_takes_what_the_verifier_likes_best(home, showo, tmp_path):
    generate(home, tmp_path, "-n", 4, "--strategy", "orm", "--verifier", home / "llava")
    images = showo.decode(sample_masked(showo, [PROMPT] * 4, range(4), 0, steps=3))
    odds = LlavaVerifier.from_pretrained(home / "llava").ask(FINAL, [PROMPT] * 4, images).tolist()
    result = read(tmp_path / "result.json")
    assert [path["final"] for path in result["paths"]] == pytest.approx(odds, abs=1e-5)
    assert result["chosen"] == f"path_0{odds.index(max(odds))}.png"


def test_the_questions_file_is_what_is_asked(home, tmp_path):
    wording = {"FINAL": "Do you see {prompt} here? Say yes or no, please."}
    (tmp_path / "mine.json").write_text(json.dumps(wording))
    finals = {}
    for name, more in (("shipped", []), ("mine", ["--questions", tmp_path / "mine.json"])):
        given = ("--strategy", "orm", "--verifier", home / "llava")
        assert generate(home, tmp_path / name, "-n", 2, *given, *more) == 0
        finals[name] = [path["final"] for path in read(tmp_path / name / "result.json")["paths"]]
    assert finals["mine"] != finals["shipped"]
    assert (
        generate(home, tmp_path, "--strategy", "parm", "--verifier", home / "llava", "--questions",
                 tmp_path / "mine.json") == 2
    )  # fmt: skip


def test_a_judged_prompt_is_given_with_its_metadata(home, metadata, tmp_path, capsys):
    for number in (0, 1):
        line, out = json.dumps(metadata[number]), tmp_path / str(number)
        given = ("--judge", home / "judge", "--geneval-out", out / "geneval", "-n", 2)
        assert generate(home, out, *given, prompt=line) == 0
        result = read(out / "result.json")
        assert result["metadata"] == metadata[number]
        samples = sorted((out / "geneval" / "00000" / "samples").iterdir())
        assert [file.read_bytes() for file in samples] == [
            (out / f"path_0{k}.png").read_bytes() for k in (0, 1)
        ]
        lines = [json.loads(text) for text in (out / "geneval" / "results.jsonl").read_text().splitlines()]
        assert [entry["correct"] for entry in lines] == [p["correct"] for p in result["pictures"]]
        assert lines[0]["correct"] == (number == 0)
    assert "of 2 right" in capsys.readouterr().out


def test_a_model_of_the_hub_is_fetched_by_its_name(home, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("huggingface_hub.snapshot_download",
                        lambda name, **_: asked.append(name) or str(home / "show-o"))  # fmt: skip
    command = ["generate", PROMPT, "--model", "showlab/show-o", "--steps", "2", "--out", str(tmp_path)]
    assert main(command) == 0 and set(asked) == {"showlab/show-o"}


def test_config_json_decides_which_model_is_loaded(tmp_path, monkeypatch, capsys):
    """Janus comes from its own module, which is only imported then."""
    asked = []

    class Janus:
        @classmethod
        def from_pretrained(cls, name, *, device, dtype):
            asked.append((str(name), device, dtype))
            raise KeyboardInterrupt  # it need not draw here

    module = types.ModuleType("cotlib.models.published.janus")
    module.Janus = Janus
    monkeypatch.setitem(sys.modules, "cotlib.models.published.janus", module)
    (tmp_path / "config.json").write_text(
        '{"architectures": ["JanusForConditionalGeneration"], "model_type": "janus"}'
    )
    assert main(["generate", PROMPT, "--model", str(tmp_path), "--out", str(tmp_path / "out")]) == 130
    assert asked == [(str(tmp_path), "cpu", torch.float32)]


# ----- evaluate and judge -------------------------------------------------------------------------------------------


def test_evaluate_measures_and_keeps_the_pictures_as_geneval_does(home, metadata, tmp_path, capsys):
    out, kept = tmp_path / "result.json", tmp_path / "geneval"
    given = ("--judge", home / "judge", "--geneval-out", kept, "-n", 2, "--seeds", "0,1")
    assert evaluate(home, out, metadata, *given) == 0
    result = read(out)
    assert "overall" in capsys.readouterr().out and result["model"] == str(home / "show-o")
    lines = [json.loads(text) for text in (kept / "results.jsonl").read_text().splitlines()]
    assert len(lines) == 6 * 2 * 2 and {line["correct"] for line in lines} == {True, False}
    by_task = {tag: [line["correct"] for line in lines if line["tag"] == tag] for tag in result["tasks"]}
    for tag, entry in result["tasks"].items():
        assert entry["score"] == pytest.approx(sum(by_task[tag]) / len(by_task[tag]), abs=1e-4)
    # the pictures on disk are judged as those in memory were, by another command
    assert (
        main(["judge", str(kept), "--judge", str(home / "judge"), "--json", str(tmp_path / "again.json")])
        == 0
    )
    assert [json.loads(text) for text in (kept / "results.jsonl").read_text().splitlines()] == lines
    assert read(tmp_path / "again.json")["overall"] == pytest.approx(result["overall"], abs=1e-4)


def test_without_a_judge_the_pictures_are_drawn_for_later(home, metadata, tmp_path, capsys):
    out, kept = tmp_path / "result.json", tmp_path / "geneval"
    given = ("--strategy", "orm", "--verifier", home / "llava", "-n", 2, "--geneval-out", kept)
    assert evaluate(home, out, metadata[:3], *given) == 0
    assert "no judge" in capsys.readouterr().out and not (kept / "results.jsonl").exists()
    result = read(out)
    assert (
        "overall" not in result
        and result["judge"] is None
        and result["ledger"]["verifier_calls"] == {"FINAL": 6}
    )
    assert sorted(p.name for p in kept.rglob("*.png")) == ["0000.png"] * 3


def test_limit_keeps_the_numbers_of_the_file(home, metadata, tmp_path):
    kept = tmp_path / "geneval"
    assert evaluate(home, tmp_path / "r.json", metadata, "--limit", 2, "--geneval-out", kept) == 0
    assert sorted(p.name for p in kept.iterdir()) == ["00000", "00003"]
    assert read(kept / "00003" / "metadata.jsonl") == metadata[3]


def test_the_oracle_asks_genevals_judge(home, metadata, tmp_path):
    given = ("--strategy", "oracle", "-n", 3, "--judge", home / "judge")
    assert evaluate(home, tmp_path / "r.json", metadata[:2], *given) == 0
    result = read(tmp_path / "r.json")
    assert (
        result["ledger"]["verifier_calls"] == {"JUDGE": 6}
        and result["tasks"]["single_object"]["score"] == 1.0
    )


def test_pictures_of_other_prompts_are_not_mixed_in(home, metadata, tmp_path, capsys):
    kept = tmp_path / "geneval"
    assert evaluate(home, tmp_path / "a.json", metadata[:2], "--geneval-out", kept) == 0
    capsys.readouterr()
    assert evaluate(home, tmp_path / "b.json", metadata[1:], "--geneval-out", kept) == 2
    assert "holds pictures of another list of prompts (number 0" in complaints(capsys)[-1]
    assert evaluate(home, tmp_path / "c.json", metadata[:2], "--geneval-out", kept, "-n", 2) == 0
    assert len(list(kept.rglob("*.png"))) == 4


# ----- the released code's rules ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "strategy, released", [("orm-zs", released_orm), ("orm", released_orm), ("parm", released_parm)]
)
def test_paper_compatible_is_the_released_choice_by_the_released_reading(
    home, showo, tmp_path, strategy, released
):
    given = ("--verifier", home / "llava", "-n", 4)
    assert generate(home, tmp_path, "--strategy", strategy, *given, "--paper-compatible") == 0
    verifier = LlavaVerifier.from_pretrained(home / "llava", paper_compatible=True)
    outcome = released(showo, [PROMPT], 4, 0, steps=3, verifier=verifier)
    result = read(tmp_path / "result.json")
    assert result["chosen"] == f"path_0{outcome.chosen[0]}.png"
    assert result["ledger"]["verifier_calls"] == dict(outcome.ledger.verifier_calls)
    for number, picture in enumerate(to_pil(showo.decode(torch.stack([p.codes for p in outcome.paths[0]])))):
        assert Image.open(tmp_path / f"path_0{number}.png").tobytes() == picture.tobytes()


def test_the_temperature_is_carried_over_to_all_pictures_of_a_prompt(home, showo, metadata, tmp_path):
    """Four pictures of a prompt, as in the paper: only the first is drawn with noise in the choice of tokens to keep."""
    drawn = {}
    for name, more in (("ours", []), ("released", ["--paper-compatible"])):
        kept = tmp_path / name
        given = ("--seeds", "0,1,2,3", "--geneval-out", kept)
        assert evaluate(home, tmp_path / f"{name}.json", metadata[:1], *given, *more) == 0
        drawn[name] = [Image.open(file).tobytes() for file in sorted(kept.rglob("*.png"))]

    def picture(seed, temperature):
        codes = sample_masked(showo, [PROMPT], [0], seed, steps=3, temperature=temperature)
        return to_pil(showo.decode(codes))[0].tobytes()

    assert drawn["ours"] == [picture(seed, 1.0) for seed in range(4)]
    assert drawn["released"] == [picture(0, 1.0), *(picture(seed, 0.0) for seed in (1, 2, 3))]
    assert drawn["ours"][1:] != drawn["released"][1:]
    assert read(tmp_path / "released.json")["paper_compatible"] is True


# ----- memory -------------------------------------------------------------------------------------------------------


def test_too_little_memory_halves_the_batch_and_says_so(home, tmp_path, monkeypatch, capsys):
    assert generate(home, tmp_path / "whole", "-n", 5) == 0
    whole = Showo.image

    def small(self, codes, *more):
        if len(codes) > 4:  # two pictures, each with and without its prompt
            raise torch.OutOfMemoryError("as on a GPU")
        return whole(self, codes, *more)

    monkeypatch.setattr(Showo, "image", small)
    capsys.readouterr()
    assert generate(home, tmp_path / "halved", "-n", 5) == 0
    assert complaints(capsys) == [
        "cotlib: 5 pictures at once do not fit into the device's memory; going on with 2"
    ]
    for k in range(5):
        a, b = (Image.open(tmp_path / name / f"path_0{k}.png").tobytes() for name in ("whole", "halved"))
        assert max(abs(x - y) for x, y in zip(a, b, strict=True)) <= 1
    monkeypatch.setattr(Showo, "image", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("full")))
    assert generate(home, tmp_path / "none", "-n", 2) == 2
    assert "not even one of" in complaints(capsys)[-1]


@pytest.mark.parametrize("what, more", [
    ("cotlib.models.published.showo.load_phi", []),
    ("cotlib.models.published.llava.load_llava", ["--strategy", "orm", "--verifier"]),
])  # fmt: skip
def test_a_model_that_does_not_fit_says_how_large_it_is(home, tmp_path, monkeypatch, capsys, what, more):
    monkeypatch.setattr(what, lambda *_, **__: (_ for _ in ()).throw(torch.OutOfMemoryError("full")))
    assert generate(home, tmp_path, *more, *([home / "llava"] if more else [])) == 2
    said = complaints(capsys)
    assert len(said) == 1 and "GiB of weights in float32) does not fit into the device's memory" in said[0]


def test_on_a_gpu_the_planner_says_how_many_pictures_at_a_time(home, monkeypatch, recwarn):
    plan = evaluation.Plan("parm", 20, model=str(home / "show-o"), judge=None, verifier=str(home / "llava"))
    found = {}
    for gb in (12, 8):
        monkeypatch.setattr(evaluation, "device_gb", lambda _, gb=gb: gb)
        model, _, who = evaluation.crew(plan)
        found[gb] = model.chunks.size, model.tokenizer.chunks.size, who.verifier.chunks.size
        chunks = plan_for(home / "show-o", home / "llava", gb, 20).chunks
        assert found[gb] == (chunks["generator"], chunks["decoder"], min(8, chunks["verifier"]))
    assert min(found[8]) >= 1 and found[8][1] < found[12][1] <= 20 and not len(recwarn)
    monkeypatch.setattr(evaluation, "device_gb", lambda _: 4)
    with pytest.warns(UserWarning, match="does not fit: .* of 4 GB.*going on with one picture at a time"):
        model, _, who = evaluation.crew(plan)
    assert model.chunks.size == model.tokenizer.chunks.size == who.verifier.chunks.size == 1


@pytest.mark.parametrize("missing", [True, False])
def test_four_bits_are_asked_of_the_verifier(home, tmp_path, capsys, monkeypatch, missing):
    if missing:
        monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    else:
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    code = generate(home, tmp_path, "-n", 2, "--strategy", "orm", "--verifier", home / "llava", "--four-bit")
    said = complaints(capsys)
    if missing:
        assert code == 2 and len(said) == 1 and "pip install bitsandbytes" in said[0]
    else:
        assert code == 0 and said == [] and (tmp_path / "result.json").is_file()


@pytest.mark.parametrize("changed", ["wording", "verifier", "model"])
def test_a_stopped_run_begins_anew_when_weights_or_wording_are_others(
    home, metadata, tmp_path, monkeypatch, changed
):
    place, out = tmp_path / "home", tmp_path / "result.json"
    shutil.copytree(home, place)
    wording = place / "questions.json"
    wording.write_text(json.dumps({FINAL: "Is it {prompt}?"}))
    prompts = write_lines(tmp_path / "prompts.jsonl", metadata)
    more = [
        "--judge",
        home / "judge",
        "--strategy",
        "orm",
        "--verifier",
        place / "llava",
        "--questions",
        wording,
    ]
    begun, whole = [], evaluation.measure_prompt

    def watched(model, judge, one, *rest):
        begun.append(one["prompt"])
        if len(begun) == 3:
            raise KeyboardInterrupt
        return whole(model, judge, one, *rest)

    def again() -> int:
        with contextlib.suppress(KeyboardInterrupt):
            evaluate(place, out, prompts, *more)
        return len(begun)

    monkeypatch.setattr(evaluation, "measure_prompt", watched)
    assert again() == 3
    if changed == "wording":
        wording.write_text(json.dumps({FINAL: "Does it show {prompt}?"}))
    else:
        file = next((place / {"verifier": "llava", "model": "show-o"}[changed]).glob("*.safetensors"))
        tensors = load_file(file)
        first = min(tensors)
        save_file(tensors | {first: tensors[first] * 1.001}, file, {"format": "pt"})
    assert again() == 3 + len(metadata) and read(out)["prompts"] == len(metadata)  # none of the two was kept


# ----- what is wrong is said in one sentence ------------------------------------------------------------------------


def broken(home: Path, tmp_path: Path, harm: str) -> Path:
    """A home with one fault in it."""
    copy = tmp_path / "broken"
    shutil.copytree(home, copy)
    match harm:
        case "another model":
            (copy / "show-o" / "config.json").write_text('{"_class_name": "MAGViTv2"}')
        case "missing shard":
            (copy / "llava" / "model-00002-of-00002.safetensors").unlink()
        case "truncated":
            file = copy / "show-o" / "pytorch_model.safetensors"
            file.write_bytes(file.read_bytes()[:-1000])
        case "truncated verifier":
            file = copy / "llava" / "model-00001-of-00002.safetensors"
            file.write_bytes(file.read_bytes()[:500])
        case "no image tokenizer":
            shutil.rmtree(copy / "magvitv2")
        case "half a judge":
            shutil.rmtree(copy / "judge" / "names")
        case "damaged judge":
            file = copy / "judge" / "segmenter" / "model.safetensors"
            file.write_bytes(file.read_bytes()[:-1000])
        case "questions":
            (copy / "questions.json").write_text('{"FINAL": ')
        case "unknown question":
            (copy / "questions.json").write_text('{"FINALE": "Is it {prompt}?"}')
    return copy


ORM = ("--strategy", "orm", "--verifier", "llava")


@pytest.mark.parametrize(
    ("harm", "more", "expected"),
    [
        ("another model", (), "config.json is of the model MAGViTv2; expected Showo or JanusForConditionalGeneration"),
        ("missing shard", ORM, "lacks the shard model-00002-of-00002.safetensors"),
        ("truncated", (), "is damaged or truncated"),
        ("truncated verifier", ORM, "is damaged or truncated"),
        ("no image tokenizer", (), "this Show-o has no image tokenizer"),
        ("half a judge", ("--judge", "judge"), "holds 0 folders of a clip model; expected one of mask2former and one of clip"),
        ("damaged judge", ("--judge", "judge"), "is damaged or truncated"),
        ("questions", (*ORM, "--questions", "questions.json"), "cannot be read"),
        ("unknown question", (*ORM, "--questions", "questions.json"), 'ask "FINALE"; expected some of FINAL'),
        ("none", ("--strategy", "orm", "--verifier", "show-o"), "config.json is of the model Showo; expected LlavaQwen"),
        ("none", ("--strategy", "orm", "--verifier", "nowhere"), "nowhere is no folder; expected a checkpoint folder"),
        ("none", ("--strategy", "orm"), "orm asks a verifier, and there is none; give LLaVA-OneVision's folder"),
        ("none", ("--strategy", "parm++"), "parm++ corrects pictures, which no published model here can"),
        ("none", ("--strategy", "oracle"), "oracle asks the judge, and there is none"),
        ("none", ("--judge", "detector"), 'the judge "detector" knows pictograms only'),
        ("none", ("--judge", "show-o"), "holds 0 folders of a mask2former model"),
        ("none", ("--judge", "nowhere"), 'there is no judge "'),
        ("none", ("--strategy", "prm", "--verifier", "llava", "--paper-compatible"), "prm is not in the paper's released code"),
        ("none", ("--four-bit",), "there is no verifier to pack into four bits"),
        ("none", ("-n", "0"), "n is 0"),
        ("none", ("--steps", "17"), "steps is 17"),
    ],
)  # fmt: skip
def test_bad_folders_and_switches(home, metadata, tmp_path, capsys, harm, more, expected):
    place = home if harm == "none" else broken(home, tmp_path, harm)
    names = {p.name for p in place.iterdir()} | {"nowhere"}
    more = [str(place / word) if word in names else word for word in more]
    code = generate(place, tmp_path / "out", *more, prompt=json.dumps(metadata[0]))
    said = complaints(capsys)
    assert code == 2 and len(said) == 1 and expected in said[0]
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    ("prompt", "more", "expected"),
    [
        (" ", (), "the prompt is empty"),
        ('{"tag": ', (), "begins like JSON but is none"),
        ('{"prompt": "a dog"}', (), "unknown tag None"),
        (PROMPT, ("--judge", "judge"), "a judge has to know what must be in the picture"),
        (PROMPT, ("--geneval-out", "kept"), "GenEval's layout holds a prompt's metadata"),
    ],
)
def test_prompts_that_cannot_be_used(home, tmp_path, capsys, prompt, more, expected):
    more = [str(home / "judge") if word == "judge" else word for word in more]
    assert generate(home, tmp_path / "out", *more, prompt=prompt) == 2
    assert [expected in line for line in complaints(capsys)] == [True]


@pytest.mark.parametrize(
    ("lines", "more", "expected"),
    [
        ("", ("--geneval-out", "kept"), "holds no prompt"),
        ("{broken", ("--geneval-out", "kept"), "line 1"),
        ('{"tag": "single_object", "include": [{"class": "unicorn", "count": 1}], "prompt": "x"}', ("--geneval-out", "kept"),
         "unknown class"),
        (None, ("--geneval-out", "kept"), "cannot be read"),
        ("", (), "there is no judge; give the folder of GenEval's judge with --judge, or draw now with --geneval-out"),
        ("", ("--judge", "template"), 'the judge "template" knows pictograms only'),
    ],
)  # fmt: skip
def test_lists_of_prompts_that_cannot_be_used(home, tmp_path, capsys, lines, more, expected):
    path = tmp_path / "prompts.jsonl"
    if lines is not None:
        path.write_text(lines)
    more = [tmp_path / word if word == "kept" else word for word in more]
    assert evaluate(home, tmp_path / "r.json", path, *more) == 2
    assert [expected in line for line in complaints(capsys)] == [True]


def test_published_models_need_a_list_of_prompts(home, tmp_path, capsys):
    command = ["evaluate", "--model", str(home / "show-o"), "--json", str(tmp_path / "r.json")]
    assert main(command) == 2 and "give its evaluation_metadata.jsonl with --prompts" in complaints(capsys)[0]


def test_a_checkpoint_of_the_course_is_no_published_model(tmp_path, capsys):
    from cotlib.loading import generator_folder

    command = ["generate", PROMPT, "--model", str(generator_folder("masked", "base")), "--out", str(tmp_path)]
    assert main(command) == 2 and "a checkpoint of this course goes to --weights" in complaints(capsys)[0]


def test_what_is_not_used_is_said(home, tmp_path, capsys):
    given = ("--verifier", "nowhere", "--questions", "nothing.json", "--weights", "dpo", "--order", "raster")
    assert generate(home, tmp_path, *given) == 0
    assert complaints(capsys) == [
        "cotlib: --weights and --order are of pictograms; they are not used",
        "cotlib: single asks no verifier; --verifier is not used",
        "cotlib: there is no verifier that has a wording; --questions is not used",
    ]


# ----- pictures of all kinds ----------------------------------------------------------------------------------------


def test_pictures_that_are_not_rgb_are_judged_as_if_they_were(home, metadata, tmp_path, capsys):
    assert evaluate(home, tmp_path / "r.json", metadata[:1], "--geneval-out", tmp_path / "kept", "-n", 4) == 0
    files = sorted((tmp_path / "kept").rglob("*.png"))
    picture = Image.open(files[0]).convert("L")
    for file, mode in zip(files, ("RGB", "L", "RGBA", "P"), strict=True):
        picture.convert(mode).save(file)
    assert main(["judge", str(tmp_path / "kept"), "--judge", str(home / "judge")]) == 0
    lines = [json.loads(text) for text in (tmp_path / "kept" / "results.jsonl").read_text().splitlines()]
    assert len(lines) == 4 and len({line["details"] for line in lines}) == 1 and lines[0]["details"] != "{}"
    files[2].write_bytes(files[2].read_bytes()[:100])
    assert main(["judge", str(tmp_path / "kept"), "--judge", str(home / "judge")]) == 2
    assert "0002.png is no picture that can be read" in complaints(capsys)[-1]
    assert main(["judge", str(tmp_path), "--judge", str(home / "judge")]) == 2
    assert "holds no pictures" in complaints(capsys)[-1]


def test_a_model_that_draws_in_grey_is_refused(home, metadata, tmp_path, monkeypatch, capsys):
    colourful = Showo.decode
    monkeypatch.setattr(Showo, "decode", lambda self, codes: colourful(self, codes)[:, :1])
    assert evaluate(home, tmp_path / "r.json", metadata[:1], "--geneval-out", tmp_path / "kept") == 2
    assert "pictures of shape [1, 1, 16, 16]; expected RGB" in complaints(capsys)[-1]


# ----- a full disk --------------------------------------------------------------------------------------------------


@pytest.fixture
def room():
    """Limits how large a file may grow, as a full disk does: a write fails in the middle."""
    resource = pytest.importorskip("resource", reason="limits of a process, which this system has not")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(
        resource.RLIMIT_FSIZE, (before[0] if size is None else size, before[1])
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_evaluate_keeps_what_is_finished_when_the_disk_is_full(
    home, metadata, tmp_path, capsys, room, monkeypatch
):
    given = ("--judge", home / "judge", "-n", 2)
    path = write_lines(tmp_path / "prompts.jsonl", metadata)
    headers, measure_all = [], evaluation.measure_all
    monkeypatch.setattr(
        evaluation, "measure_all", lambda *all_: headers.append(all_[3]) or measure_all(*all_)
    )
    assert evaluate(home, tmp_path / "whole.json", path, *given) == 0
    out, partial = tmp_path / "r.json", tmp_path / "r.partial.jsonl"
    capsys.readouterr()
    room(len(headers[0]) + 600)
    assert evaluate(home, out, path, *given) == 2
    room(None)
    said = complaints(capsys)
    assert len(said) == 1 and "r.json cannot be written (File too large); finished work is kept" in said[0]
    assert not out.exists()
    finished = [text for text in partial.read_text().splitlines()[1:] if text.endswith("]")]
    assert 0 < len(finished) < len(metadata) and not partial.read_text().endswith("\n")
    assert evaluate(home, out, path, *given) == 0
    assert f"{len(finished)}/{len(metadata)}" in capsys.readouterr().err  # it went on from there
    assert timeless(read(out)) == timeless(read(tmp_path / "whole.json"))


def timeless(result: dict) -> dict:
    costs = {key: value for key, value in result["ledger"].items() if not key.startswith("seconds")}
    return result | {"ledger": costs}


def test_no_half_pictures_or_results_on_a_full_disk(home, metadata, tmp_path, capsys, room):
    path = write_lines(tmp_path / "prompts.jsonl", metadata[:1])
    room(400)
    assert generate(home, tmp_path / "g") == 2
    assert evaluate(home, tmp_path / "r.json", path, "--geneval-out", tmp_path / "kept") == 2
    room(None)
    first, second = complaints(capsys)
    assert "g cannot be written (File too large)" in first and "cannot be written (File too large)" in second
    assert not (tmp_path / "r.json").exists() and not list((tmp_path / "kept").glob("0*"))
