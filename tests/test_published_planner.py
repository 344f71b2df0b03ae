"""The planner against what runs of the real code hold and compute.

Peaks: the real loops on small models of random weights, every storage followed (`Peak`), and single parts at the published
sizes on the meta device. Operations: torch's own counter, at the published sizes. Parameters: transformers' own models.
"""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from published_showo_tools import Letters, masked_after
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    CLIPConfig,
    CLIPModel,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Mask2FormerConfig,
    Mask2FormerModel,
    PhiConfig,
    PhiForCausalLM,
    SwinConfig,
)

from cotlib.cli import build_parser
from cotlib.errors import UserError
from cotlib.interfaces import CLARITY, FINAL, POTENTIAL
from cotlib.judging.mask2former import CLASSES, Mask2FormerDetector
from cotlib.kernels.masked_sample import reference
from cotlib.lab.tiny_checkpoints import qwen_words, randomised
from cotlib.models.published import memory, planner, sizes, work
from cotlib.models.published.llava import BEFORE, LlavaVerifier, read_questions, tokens
from cotlib.models.published.llava_files import Loaded
from cotlib.models.published.llava_images import Look
from cotlib.models.published.magvit import Magvit, MagvitConfig
from cotlib.models.published.memory import Crew, plan
from cotlib.models.published.peak import Peak
from cotlib.models.published.showo import Showo
from cotlib.models.published.showo_layout import ShowoConfig
from cotlib.models.published.sizes import LLAVA_05B, LLAVA_7B, MAGVIT, SHOWO_256, LlavaSizes, ShowoSizes
from cotlib.models.published.sources import SOURCES, sources_table
from cotlib.search import Ledger, parm
from cotlib.search.paths import candidates, run_paths
from cotlib.search.replay import parm_bill
from cotlib.train.published import tables as training

NEAR = 0.1  # of the project: peak memory within a tenth of what the planner says
PROMPT = "a photo of a red dog"


def showo(width=256, layers=2, codes=1024, tokens=256, bits=10, chunk=None, magvit=None, dtype=torch.float32):
    """A small Show-o with few words, so that its weights do not hide what a run holds beside them."""
    config = ShowoConfig(tokens=tokens, codes=codes, text_codes=200)
    phi = PhiConfig(vocab_size=config.entries, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
                    num_attention_heads=4, qk_layernorm=True, bos_token_id=None, eos_token_id=None)  # fmt: skip
    phi = randomised(PhiForCausalLM(phi), 0).to(dtype)
    magvit = magvit or MagvitConfig((32,) * 5, (1,) * 5, (32,) * 5, (1,) * 5, 32, bits)
    return Showo(config, phi, Letters(200), randomised(Magvit(magvit), 1), chunk).eval()


def verifier(width=224, inner=1184, batch=2, remember=32, dtype=torch.float32):
    """A small LLaVA-OneVision with the published tiles."""
    words = qwen_words()
    text = {"model_type": "qwen2", "vocab_size": len(words), "hidden_size": width, "intermediate_size": inner,
            "num_hidden_layers": 3, "num_attention_heads": 7, "num_key_value_heads": 1, "tie_word_embeddings": False}  # fmt: skip
    eye = {"model_type": "siglip_vision_model", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
           "num_attention_heads": 2, "image_size": 384, "patch_size": 14, "vision_use_head": False}  # fmt: skip
    config = LlavaOnevisionConfig(text_config=text, vision_config=eye, tie_word_embeddings=False)
    model = randomised(LlavaOnevisionForConditionalGeneration(config).eval(), 3, 2.0).to(dtype)
    made = LlavaVerifier(
        Loaded(model, Look(384), {}), words, read_questions(), batch=batch, remember=remember
    )
    made.thresholds = (0.0, 0.0)  # everything is clear at once, and nothing stops
    return made


def crew_of(model, judge=None, n=5, number=4, question=CLARITY, **more):
    """The planner's view of the models above."""
    text = len(model.text_ids(PROMPT))
    asked = (
        0
        if judge is None
        else sum(len(tokens(judge.words, t)) for t in (BEFORE, judge.text(question, PROMPT)[0]))
    )
    size = None if judge is None else LlavaSizes.of(judge.model)
    return Crew(ShowoSizes.of(model), size, model.tokenizer.config, n=n, text=text, asked=asked, number=number,
                form="cpu", **more)  # fmt: skip


def drawn(model, paths):
    """The first three of the loop's steps, the fullest ones."""
    rows = candidates([PROMPT], paths)[1]
    run_paths(model, rows, 0, Ledger(), lambda step, rows: torch.full((len(rows),), step.index < 2))


def peaks(crew, **chunks):
    """The planner's peak of each phase with chunks of this size."""
    return {name: bytes_of(chunks[model]) for name, (model, bytes_of) in memory.phases(crew).items()}


# ----- the instrument ------------------------------------------------------------------------------------------------


def test_peak_follows_storages_not_tensors():
    held = torch.zeros(100)
    with Peak(held) as peak:
        a = torch.zeros(1000)
        view = a.view(10, 100).t()
        del a
        b = view + 1  # both are there: 400 + 4000 + 4000
        del view, b
        c = torch.zeros(500)
        c += held.sum()
    assert (peak.before, peak.bytes, peak.now) == (400, 8400, 2400)


def test_peak_agrees_with_torchs_own_tracker():
    tracker = pytest.importorskip("torch.distributed._tools.mem_tracker")
    net = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.GELU(), torch.nn.Linear(256, 64))
    x = torch.randn(32, 64)
    with torch.no_grad():
        with Peak(net, x) as peak:
            net(x)
        theirs = tracker.MemTracker()
        theirs.track_external(net, x)
        with theirs:
            net(x)
    snapshot = theirs.get_tracker_snapshot("peak")[torch.device("cpu")]
    assert peak.bytes == snapshot["Total"]


# ----- peaks of the real loops ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "chunk", "highest"),
    [
        ({"width": 512}, None, "network"),
        ({"width": 512}, 2, "network"),
        ({"codes": 8192, "bits": 13}, 1, "head"),
        ({"width": 512, "dtype": torch.bfloat16}, None, "network"),
    ],
)
def test_drawing_holds_what_is_planned(options, chunk, highest):
    model = showo(chunk=chunk, **options)
    number = 2 if options.get("dtype") else 4
    crew = crew_of(model, n=6, number=number)
    planned = {name: peaks(crew, generator=chunk or 6, decoder=1)[name] for name in ("network", "head", "draw")}  # fmt: skip
    with Peak(model) as peak:
        drawn(model, 6)
    assert max(planned, key=planned.get) == highest
    own = planned[highest] - sum(crew.weights().values())
    assert own == pytest.approx(peak.bytes - peak.before, rel=NEAR)
    assert planned[highest] == pytest.approx(peak.bytes, rel=NEAR)


def test_without_guidance_half_of_the_rows_run():
    model = showo(width=512)
    model.config = ShowoConfig(tokens=256, codes=1024, text_codes=200, guidance=0.0)
    crew = crew_of(model)
    with Peak(model) as peak:
        drawn(model, 5)
    planned = peaks(crew, generator=5, decoder=1)["network"]
    assert planned - sum(crew.weights().values()) == pytest.approx(peak.bytes - peak.before, rel=NEAR)


def test_a_draw_in_plain_torch_copies_the_logits_twice():
    crew = Crew(ShowoSizes(ShowoConfig(codes=1024)), None, n=5, form="plain")
    logits = torch.randn(5 * 256, 1024)
    with Peak(logits) as peak:
        reference(logits, torch.rand(len(logits)))
    assert memory.drawing(crew, 5)["draw"] == pytest.approx(peak.bytes, rel=NEAR)
    assert memory.drawing(replace(crew, form="kernels"), 5)["draw"] == logits.nbytes


@pytest.mark.parametrize("text", [PROMPT, PROMPT + " and so on" * 8])
def test_the_layers_around_the_kernel_hold_what_is_planned(monkeypatch, text):
    """As on a GPU, but the kernel's plain form runs."""
    monkeypatch.setattr(Showo, "_fused", lambda self, ids: True)
    model = showo(width=512)
    prefix = model._with_null(model.prefix([text]).select(torch.zeros(6, dtype=torch.long)))
    with torch.no_grad(), Peak(model, *prefix[0], *prefix[1]) as peak:
        model.image(torch.zeros(12, 256, dtype=torch.long), *prefix)
    crew = replace(crew_of(model, n=6), form="kernels", text=len(model.text_ids(text)))
    copied = 12 * crew.text * crew.generator.text_numbers() * 4
    planned = memory.drawing(crew, 6)["network"] - copied
    assert planned == pytest.approx(peak.bytes - peak.before, rel=0.02)


@pytest.mark.parametrize("chunk", [None, 2])
def test_decoding_holds_what_is_planned(chunk):
    model = showo(width=64, magvit=MagvitConfig((32,) * 5, (1,) * 5, (64, 32, 64, 96, 64), (2, 1, 1, 1, 1), 32, 10))  # fmt: skip
    model.tokenizer.chunks.size = chunk
    with Peak(model.tokenizer) as peak:
        model.decode(torch.zeros(5, 256, dtype=torch.long))
    assert memory.decoding(crew_of(model), chunk or 5) == pytest.approx(peak.bytes - peak.before, rel=NEAR)


@pytest.mark.parametrize(
    ("batch", "remember", "dtype"),
    [(2, 32, torch.float32), (5, 32, torch.float32), (2, 0, torch.float32), (2, 32, torch.bfloat16)],
)
def test_asking_holds_what_is_planned(batch, remember, dtype):
    judge = verifier(batch=batch, remember=remember, dtype=dtype)
    crew = crew_of(showo(width=64), judge, number=dtype.itemsize, remember=remember, in_turn=not remember)
    images = torch.rand(5, 3, 256, 256)
    with Peak(judge.model, images) as peak:
        judge.ask(CLARITY, [PROMPT] * 5, images)
        judge.ask(POTENTIAL, [PROMPT] * 5, images)
    planned = memory.remembered(crew, batch) + memory.asking(crew, batch)
    assert planned == pytest.approx(peak.bytes - peak.before, rel=NEAR)


def test_parm_with_all_loaded_holds_what_is_planned():
    """Generator, decoder and verifier: the highest of all phases, and that it is one of the verifier's."""
    model, judge = showo(width=128, chunk=2), verifier(batch=4)
    model.tokenizer.chunks.size = 1
    crew = crew_of(model, judge)
    planned = peaks(crew, generator=2, decoder=1, verifier=4)
    with Peak(model, judge.model) as peak:
        parm(model, [PROMPT], 5, verifier=judge, steps=8)
    weights = sum(crew.weights().values())
    assert max(planned, key=planned.get) == "verifier"
    assert planned["verifier"] - weights == pytest.approx(peak.bytes - peak.before, rel=NEAR)
    assert planned["verifier"] == pytest.approx(peak.bytes, rel=NEAR)


def test_best_of_n_in_turn_holds_what_is_planned():
    """First the generator alone, then the verifier alone, which keeps nothing."""
    model, judge = showo(width=384, codes=8192, bits=13, chunk=2), verifier(batch=2)
    model.tokenizer.chunks.size = 2
    crew = crew_of(model, judge, question=FINAL, in_turn=True)
    planned = peaks(crew, generator=2, decoder=2, verifier=2)
    last = planned.pop("verifier")
    with Peak(model) as peak:
        drawn(model, 5)
        images = model.decode(torch.zeros(5, 256, dtype=torch.long))
    assert max(planned.values()) == pytest.approx(peak.bytes, rel=NEAR)
    with Peak(judge.model, images) as peak:
        judge.ask(FINAL, [PROMPT] * 5, images)
    assert last == pytest.approx(peak.bytes, rel=NEAR)


# ----- single parts at the published sizes ---------------------------------------------------------------------------


def fused(query, key, value, **_):
    """Attention as a kernel does it that holds no table of scores."""
    return torch.empty_like(query)


@pytest.fixture(scope="module")
def published():
    """(Show-o 256, MAGVIT-v2, LLaVA-OneVision 7 B and 0.5 B) without memory, in half precision but for the second."""
    with torch.device("meta"):
        phi = PhiConfig(vocab_size=58498, qk_layernorm=True, bos_token_id=None, eos_token_id=None)
        phi = PhiForCausalLM._from_config(phi, attn_implementation="sdpa", dtype=torch.bfloat16)
        llavas = []
        for text, tied in (
            ({"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
              "num_key_value_heads": 4, "vocab_size": 152064}, False),
            ({"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
              "num_key_value_heads": 2, "vocab_size": 151936}, True),
        ):  # fmt: skip
            eye = {"model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 26,
                   "num_attention_heads": 16, "image_size": 384, "patch_size": 14, "vision_use_head": False}  # fmt: skip
            text |= {"model_type": "qwen2", "tie_word_embeddings": tied}
            config = LlavaOnevisionConfig(text_config=text, vision_config=eye, tie_word_embeddings=tied)
            llavas.append(LlavaOnevisionForConditionalGeneration._from_config(config, dtype=torch.bfloat16))
        return Showo(ShowoConfig(), phi, Letters(50295), Magvit()), Magvit(), *llavas


def numbers(module):
    return sum(p.numel() for p in {id(p): p for p in module.parameters()}.values())


def test_parameters_are_those_of_the_published_models(published):
    model, magvit, seven, half = published
    assert SHOWO_256.parameters() == numbers(model.phi) == 1_448_176_770
    assert sizes.magvit_parameters(MAGVIT) == numbers(magvit)
    assert sizes.magvit_bytes(MAGVIT) == 381_974_104  # of the published file's tensors
    assert LLAVA_7B.parameters() == numbers(seven) and LLAVA_05B.parameters() == numbers(half)
    matrices = [p for name, p in seven.model.language_model.layers.named_parameters() if p.ndim == 2]
    assert LLAVA_7B.layer_weights() == sum(p.numel() for p in matrices)
    assert sizes.ShowoSizes.of(model) == SHOWO_256 and sizes.LlavaSizes.of(seven) == LLAVA_7B
    assert sizes.LlavaSizes.of(half) == LLAVA_05B


def test_the_network_on_twenty_paths_of_the_published_size(published, monkeypatch):
    monkeypatch.setattr(F, "scaled_dot_product_attention", fused)
    model, text = published[0], 20
    with torch.device("meta"), torch.no_grad():
        keys = [torch.empty(40, 32, text, 64, dtype=torch.bfloat16) for _ in range(48)]
        codes, valid = torch.empty(40, 256, dtype=torch.long), torch.empty(40, text, dtype=torch.bool)
        with Peak(model, *keys) as peak:
            model.image(codes, keys[:24], keys[24:], valid)
    copied = 40 * text * SHOWO_256.text_numbers() * 2
    assert memory.drawing(Crew(form="plain"), 20)["network"] - copied == pytest.approx(
        peak.bytes - peak.before, rel=0.02
    )


@pytest.mark.parametrize("tokens", [256, 1024])
def test_decoding_a_picture_of_the_published_size(published, tokens):
    side = int(tokens**0.5)
    with torch.device("meta"), torch.no_grad(), Peak(published[1]) as peak:
        published[1].decoder(torch.empty(1, 13, side, side))
    assert sizes.decode_numbers(MAGVIT, tokens) * 4 == pytest.approx(peak.bytes - peak.before, rel=0.02)


def test_reading_eight_pictures_at_the_published_size(published, monkeypatch):
    """The language model alone: the texts that are put together before are three of its six widths."""
    monkeypatch.setattr(F, "scaled_dot_product_attention", fused)
    words, length, crew = published[2].model.language_model, 920, Crew(n=8)
    with torch.device("meta"), torch.no_grad():
        x = torch.empty(8, length, 3584, dtype=torch.bfloat16)
        places = torch.empty(8, length, dtype=torch.long)
        with Peak(words) as peak:
            words(inputs_embeds=x, position_ids=places, use_cache=True)
    others = 2 * 8 * length * 3584 * 2 + 2 * 8 * 152064 * 4
    assert memory.asking(crew, 8) - others == pytest.approx(peak.bytes - peak.before, rel=0.04)


def flops(run):
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def test_operations_are_those_that_torch_counts(published):
    """Norms, softmax, activations and the rotary turn are in neither count."""
    model, magvit, seven, _ = published
    keys = [torch.empty(2, 32, 20, 64, dtype=torch.bfloat16, device="meta") for _ in range(24)]
    codes, valid = torch.empty(2, 256, dtype=torch.long, device="meta"), torch.empty(2, 20, dtype=torch.bool, device="meta")  # fmt: skip
    step = flops(lambda: model.image(codes, keys, keys, valid)) + flops(lambda: model.head(torch.empty(200, 2048)))  # fmt: skip
    assert SHOWO_256.step_flops(20, 200) == pytest.approx(step, rel=1e-3)
    whole = torch.empty(2, 387, dtype=torch.long, device="meta")
    asked = flops(
        lambda: model.full_logits(whole, torch.empty(2, 1, 387, 387, dtype=torch.bool, device="meta"))
    )
    assert SHOWO_256.released_step_flops() == pytest.approx(asked, rel=1e-3)
    assert sizes.magvit_flops(MAGVIT, 256) == flops(lambda: magvit.decoder(torch.empty(1, 13, 16, 16)))
    assert sizes.magvit_flops(MAGVIT, 256, encoder=True) == flops(lambda: magvit.encoder(torch.empty(1, 3, 256, 256)))  # fmt: skip

    def one_question():
        tower = seven.model.vision_tower
        seen = tower(torch.empty(1, 3, 384, 384, dtype=torch.bfloat16)).last_hidden_state
        seven.model.multi_modal_projector(seen)
        x = seven.model.language_model(inputs_embeds=torch.empty(1, 805, 3584, dtype=torch.bfloat16))
        seven.lm_head(x.last_hidden_state[:, -1])

    assert LLAVA_7B.flops(805) == pytest.approx(flops(one_question), rel=1e-3)


def judge_config(depth=18, **fewer):
    swin = SwinConfig(embed_dim=96, depths=[2, 2, depth, 2], num_heads=[3, 6, 12, 24], window_size=7,
                      out_features=["stage1", "stage2", "stage3", "stage4"])  # fmt: skip
    return Mask2FormerConfig(backbone_config=swin, num_labels=len(CLASSES), **fewer)


def test_a_picture_before_the_judge_at_the_published_size():
    """Of GenEval's judge the weights are counted. What a picture of 800 pixels takes is measured, with fewer layers in the
    backbone and the last part, which are not where it is most."""
    clip = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    eye = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
           "image_size": 224, "patch_size": 14}  # fmt: skip
    with torch.device("meta"):
        colors = CLIPModel(CLIPConfig(text_config=clip, vision_config=eye, projection_dim=768))
        head, whole = torch.nn.Linear(256, len(CLASSES) + 1), Mask2FormerModel(judge_config())
    assert numbers(whole) + numbers(head) + numbers(colors) == memory.JUDGE_WEIGHTS / 4
    model = Mask2FormerModel(judge_config(depth=2, decoder_layers=4)).eval()
    head = torch.nn.Linear(256, len(CLASSES) + 1)
    with Peak(model, head) as peak:
        Mask2FormerDetector(model, head).logits(torch.rand(1, 3, 800, 800))
    assert memory.JUDGE_PICTURE == pytest.approx(peak.bytes - peak.before, rel=NEAR)


# ----- plans ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gb", [8, 12, 16, 24, 40])
@pytest.mark.parametrize("crew", [Crew(four_bit=True), Crew(sizes.SHOWO_512, LLAVA_05B), Crew(in_turn=True, judge=True)])  # fmt: skip
def test_a_plan_takes_the_largest_chunks_that_fit(crew, gb):
    made, tops = plan(crew, gb), memory.phases(crew)
    for model, chunk in made.chunks.items():
        own = [bytes_of for owner, bytes_of in tops.values() if owner == model]
        assert chunk == 0 or all(bytes_of(chunk) <= made.room for bytes_of in own)
        if chunk < (4 if model == "judge" else crew.paths):
            assert any(bytes_of(chunk + 1) > made.room for bytes_of in own)
    assert made.fits == (made.peak <= made.room)
    assert made.room == gb * 10**9 - 2**30


def test_what_takes_less():
    whole = plan(Crew(), 1000).peak
    for other in (
        Crew(four_bit=True),
        Crew(verifier=LLAVA_05B),
        Crew(in_turn=True),
        Crew(n=4),
        Crew(remember=0),
    ):
        assert plan(other, 1000).peak < whole
    assert plan(Crew(number=4), 1000).peak > whole and plan(Crew(judge=True), 1000).peak > whole
    assert plan(Crew(prompts=2), 1000).peak > whole


@pytest.mark.parametrize(
    ("gb", "crew", "words"),
    [
        (16, Crew(), ("does not fit", "GiB are needed", "of 16 GB", "four_bit=True")),
        (16, Crew(four_bit=True), ("It fits", "generator 20", "of 20")),
        (9, Crew(in_turn=True), ("does not fit", "four_bit=True", "0.5 B")),
        (9, Crew(), ("does not fit", "0.5 B", "in turn, the verifier in 4 bits (best-of-N only)")),
        (3, Crew(verifier=None), ("does not fit", "larger card")),
    ],
)
def test_advice_is_one_sentence_with_what_to_change(gb, crew, words):
    said = memory.advice(plan(crew, gb), gb)
    assert all(word in said for word in words), said
    assert said.endswith(".") and "\n" not in said


def test_what_is_advised_would_fit():
    assert plan(Crew(four_bit=True), 16).fits and plan(Crew(in_turn=True, four_bit=True), 9).fits
    assert not plan(Crew(), 16).fits


# ----- work ----------------------------------------------------------------------------------------------------------


class Script:
    """Says clear from a step on, and no to the potential of the first paths."""

    questions = (CLARITY, POTENTIAL, FINAL)
    thresholds = (0.5, 0.5)

    def __init__(self, clear, ask_from, rejected, n):
        self.wait, self.ask_from, self.rejected, self.n = clear - ask_from, ask_from - 1, rejected, n

    def ask(self, question, prompts, images):
        if question == CLARITY:
            self.wait -= 1
            return torch.full((len(prompts),), float(self.wait < 0))
        if question == POTENTIAL:
            return (torch.arange(len(prompts)) >= self.rejected).float()
        return torch.ones(len(prompts))


@pytest.mark.parametrize(("clear", "ask_from", "rejected"), [(5, 1, 3), (1, 1, 0), (18, 18, 2), (7, 4, 4)])
def test_work_is_what_the_ledger_of_a_search_counts(clear, ask_from, rejected):
    n, ledger, model = 6, Ledger(), showo(width=32, tokens=64)
    parm(model, [PROMPT], n, 0, ledger, verifier=Script(clear, ask_from, rejected, n))
    crew = crew_of(model, n=n)
    counted = work.parm(crew, clear, rejected / n, ask_from)
    assert counted.asked == {question: pytest.approx(calls) for question, calls in ledger.verifier_calls.items()}  # fmt: skip
    assert counted.decodes == pytest.approx(ledger.decodes)
    rows = ledger.generator_token_passes / (2 * 64)
    stopped = np.where(np.arange(n) < rejected, clear - 1, -1)
    clarity = np.tile(np.arange(1, 19) >= clear, (n, 1)).astype(float)
    assert rows == parm_bill(clarity, 0.5, ask_from - 1, n - 1, stopped).rows
    network = rows * 2 * 66 * crew.generator.token_flops(crew.text + 66)
    head = counted.generator - network  # at the masked places: at most all of them, in the mean fewer
    assert 0.5 * rows < head / (64 * 2 * 32 * 1024) < rows


def test_head_runs_at_the_masked_places():
    """Best-of-N with a network of no layers is the head alone."""
    bare = ShowoSizes(ShowoConfig(), width=2048, layers=0)
    masked, per_place = masked_after(256, 18), 2 * 2048 * 8192
    alone = work.best_of_n(Crew(bare, None, n=20)).generator
    assert alone == pytest.approx((256 + 20 * (sum(masked[:-1]))) * per_place)


def test_published_figures_of_the_research_notes():
    """Counted once by hand from the released code: TFLOP of a step, of a question, of a picture decoded."""
    assert SHOWO_256.released_step_flops() / 1e12 == pytest.approx(2.11, abs=0.01)
    assert sizes.SHOWO_512.released_step_flops() / 1e12 == pytest.approx(6.66, abs=0.01)
    assert LLAVA_7B.flops(805) / 1e12 == pytest.approx(11.3, rel=0.02)
    assert LLAVA_7B.flops(60, before=920) / 1e12 == pytest.approx(0.8, abs=0.01)
    assert LLAVA_7B.weight_bytes() / 1e9 == pytest.approx(16.06, abs=0.01)


def test_stopping_saves_drawing_and_asking_costs_more():
    crew = Crew()
    whole, stops, draws_on = (
        work.best_of_n(crew),
        work.parm(crew, 10, 0.5),
        work.parm(crew, 10, 0.5, stop=False),
    )
    assert stops.generator < whole.generator == draws_on.generator
    assert stops.verifier == draws_on.verifier > whole.verifier
    assert work.parm(crew, 10, 0.5, ask_from=7).verifier < stops.verifier
    card = work.CARDS[0]
    assert stops.seconds(card, 0.7) == pytest.approx(stops.seconds(card, 0.35) / 2)
    assert stops.total == stops.generator + stops.decoder + stops.verifier
    for wrong in ((0, 0.5, 1), (19, 0.5, 1), (5, 1.5, 1), (5, 0.5, 6)):
        with pytest.raises(UserError, match="expected"):
            work.parm(crew, *wrong)


# ----- tables --------------------------------------------------------------------------------------------------------


PAGE = Path(__file__).resolve().parents[1] / "docs" / "PUBLISHED_MODELS.md"


def stored(name):
    page, begin, end = PAGE.read_text(encoding="utf-8"), f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    assert page.count(begin) == page.count(end) == 1
    return page.split(begin)[1].split(end)[0].strip()


def test_the_document_has_the_printed_tables(capsys):
    assert planner.main([]) == 0
    printed = capsys.readouterr().out.strip()
    assert stored("planner") == printed, "put what python -m cotlib.models.published.planner prints into the document"  # fmt: skip
    assert stored("sources") == sources_table()
    assert stored("training") == training.markdown(), (
        "put what python -m cotlib.train.published.tables prints"
    )


def test_sources_say_where_a_licence_stands_and_sizes_are_those_of_the_files():
    by_hub = {source.hub: source for source in SOURCES}
    assert len(by_hub) == len(SOURCES)
    paper = [source for hub, source in by_hub.items() if hub.startswith("ZiyuG/")]
    assert len(paper) == 5 and all("none found" in source.licence for source in paper)
    assert all(source.basis for source in SOURCES)
    for hub, size in (("showlab/show-o", SHOWO_256.parameters() * 4), ("showlab/magvitv2", sizes.magvit_bytes(MAGVIT)),
                      ("ZiyuG/Image-Generation-CoT/dpo", SHOWO_256.parameters() * 2),
                      ("lmms-lab/llava-onevision-qwen2-7b-ov", LLAVA_7B.weight_bytes()),
                      ("lmms-lab/llava-onevision-qwen2-0.5b-ov", LLAVA_05B.weight_bytes())):  # fmt: skip
        assert by_hub[hub].gb == pytest.approx(size / 1e9, rel=0.02), hub


def test_the_documents_questions_are_a_form_that_is_read():
    block = PAGE.read_text(encoding="utf-8").split("```json")[1].split("```")[0]
    assert set(read_questions(json.loads(block))) == {FINAL, CLARITY, POTENTIAL}


def test_the_documents_commands_are_understood():
    """Every `python -m cotlib ...` in the document goes through the command line's own parser."""
    text = PAGE.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.startswith("python -m cotlib ")]
    assert len(lines) >= 2
    for line in lines:
        build_parser().parse_args(shlex.split(line)[3:])


def test_the_command_says_whether_it_fits(capsys):
    assert planner.main(["--gb", "16"]) == 1 and "does not fit" in capsys.readouterr().out
    assert planner.main(["--gb", "16", "--verifier", "7b-4bit", "--size", "256"]) == 0
    assert "It fits" in capsys.readouterr().out
    assert planner.main(["--gb", "24", "--verifier", "none", "-n", "4", "--judge", "--in-turn"]) == 0
