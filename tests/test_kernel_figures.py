"""Notebook 10's parts: the ideas against brute force, the stopwatch on made-up times, figures say what the numbers say."""

import ast
import csv
import inspect
import math
import re
from importlib import import_module
from itertools import count

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kernel_tools import needs_triton

from cotlib import load
from cotlib.decoding import sample_masked
from cotlib.kernels.cost import Cost
from cotlib.kernels.launch import tl
from cotlib.lab import kernel_figures as figures
from cotlib.lab import kernel_lessons as lessons
from cotlib.lab import kernel_timing as timing
from cotlib.lab import kernel_trial
from cotlib.lab.checks import FAILED, NOT_ATTEMPTED, examine
from cotlib.lab.exercises import REGISTRY
from cotlib.lab.figures import MAX_BYTES, compact_png
from cotlib.lab.kernel_timing import PARTS, Ceiling, Timing

PROMPT = "a photo of a dog left of a couch"


@pytest.fixture(autouse=True, scope="module")
def one_core():
    """As in the notebook; cores that wait for each other make times useless on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


# ----- ideas -------------------------------------------------------------------------------------------------------


def test_sortable_keeps_the_order_of_floats():
    x = torch.cat([torch.randn(500, generator=chance()) * 10.0 ** torch.randint(-30, 30, (500,), generator=chance(1)),
                   torch.tensor([0.0, -0.0, math.inf, -math.inf, 1e-45, -1e-45])])  # fmt: skip
    keys = lessons.sortable(x)
    assert keys.min() >= 0 and keys.max() < 2**32
    order = keys.argsort()
    assert (x[order].diff() >= 0).all()
    assert (
        (x[:, None] < x) == (keys[:, None] < keys)
    ).all()  # equal floats, -0 and 0 among them, have equal keys


@pytest.mark.parametrize(("n", "bits"), [(1, 3), (8, 2), (50, 6), (33, 20)])
def test_kth_smallest_is_the_sorted_one(n, bits):
    keys = torch.randint(0, 2**bits, (6, n), generator=chance(n))
    for k in range(1, n + 1):
        assert lessons.kth_smallest(keys, k, bits).equal(keys.sort(1).values[:, k - 1])


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_streamed_logsumexp_against_float64(block):
    x = 30 * torch.randn(9, 130, generator=chance())
    x[0] += 1e4
    x[1] -= 1e4
    x[2, :60] = x[3, 60:] = -math.inf
    torch.testing.assert_close(
        lessons.streamed_logsumexp(x, block).double(), x.double().logsumexp(1), rtol=1e-6, atol=1e-5
    )
    assert lessons.streamed_logsumexp(torch.full((1, 5), -math.inf), 2).tolist() == [-math.inf]


@pytest.mark.parametrize("cut", [1, 5, 19])
def test_attention_in_parts_is_torchs_in_one(cut):
    q, k, v = (torch.randn(2, 3, n, 8, dtype=torch.float64, generator=chance(n)) for n in (6, 20, 20))
    k = k * 20  # sharp weights: one part may hold nearly all of the sum
    joined = lessons.merge(
        lessons.attend(q, k[:, :, :cut], v[:, :, :cut]), lessons.attend(q, k[:, :, cut:], v[:, :, cut:])
    )
    torch.testing.assert_close(joined, F.scaled_dot_product_attention(q, k, v), rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def generator():
    return load("generator")


def test_every_rung_draws_what_the_librarys_loop_draws(generator):
    wanted = sample_masked(generator, [PROMPT] * 3, [0, 1, 2], 5)
    for rung in range(1, len(lessons.RUNGS)):
        same = lessons.draw(generator, PROMPT, 3, 5, rung) == wanted
        assert same.float().mean() > 0.98, lessons.RUNGS[
            rung
        ]  # a batch of another size may round a code over


def test_the_lowest_rung_is_a_fair_draw_of_its_own(generator):
    a, b = (lessons.draw(generator, PROMPT, 2, seed, 0) for seed in (0, 1))
    assert a.shape == (2, 64) and (a < generator.mask_id).all()
    assert not a.equal(b) and not a[0].equal(a[1])
    assert a.equal(lessons.draw(generator, PROMPT, 2, 0, 0))


def test_operations_counts_work_and_no_views():
    x = torch.ones(4, 6)
    assert lessons.operations(lambda: x.T[1:].unflatten(0, (5, 1))) == 0
    assert lessons.operations(lambda: (x + 1).mul_(2).T.sum()) == 3


# ----- the trial -----------------------------------------------------------------------------------------------------


def test_without_triton_the_trial_says_so_in_one_sentence(monkeypatch):
    monkeypatch.setattr(kernel_trial.importlib.util, "find_spec", lambda name: None)
    tried = kernel_trial.trial()
    assert tried.rows == () and tried.wrong == 0 and tried.where == ""
    assert "Triton is not installed" in tried.text("remask_step") and "\n" not in tried.text("remask_step")


def test_a_process_that_dies_is_excused(monkeypatch):
    monkeypatch.setattr(kernel_trial.importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(kernel_trial.sys, "executable", "no-such-python")
    assert "FileNotFoundError" in kernel_trial.trial().excuse


def test_a_trial_counts_and_names_what_is_off():
    row = {"kernel": "remask_step", "of": "rows", "against": "sorted()", "off": 2, "allowed": 0}
    lost = row | {"off": math.nan, "allowed": 1e-5}
    tried = kernel_trial.Trial("here", (row, lost, row | {"off": 0}))
    assert tried.wrong == 2
    assert tried.text("remask_step").count("NOT EQUAL") == 2 and "2 differ" in tried.text("remask_step")


@needs_triton
def test_all_kernels_are_tried_and_equal():
    tried = kernel_trial.trial()
    assert tried.excuse == "" and tried.wrong == 0
    assert {row["kernel"] for row in tried.rows} == set(figures.KERNELS)


def spoilt(name, form):
    """The reference with one mistake, as a kernel could have it."""
    if name == "qknorm_rope_kv":
        return lambda *a: form(*a[:8], a[8] - 1)  # into the wrong place of the cache
    if name == "remask_step":
        return lambda *a: form(*a[:3], a[3] - 1, *a[4:])  # one token too few
    if name == "masked_sample":
        return lambda *a: (form(*a)[0], form(*a)[1] + 1e-4)
    return lambda *a, **options: form(*a, **options) + 1


@pytest.mark.parametrize("kernel", [None, *figures.KERNELS])
def test_the_trial_notices_a_kernel_that_is_wrong(kernel, monkeypatch):
    """With the references in the places of the Triton forms, one of them spoilt."""
    for name in figures.KERNELS:
        module = import_module(f"cotlib.kernels.{name}")
        form = spoilt(name, module.reference) if name == kernel else module.reference
        monkeypatch.setattr(module, "launch", form)
    wrong = {row["kernel"] for row in kernel_trial.compare_all("cpu") if not row["off"] <= row["allowed"]}
    assert wrong == ({kernel} if kernel else set())


def no_mask(cond, uncond, out, n, w, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, (1 + w) * tl.load(cond + i) - w * tl.load(uncond + i))


def does_not_compile(cond, uncond, out, n, w, BLOCK: tl.constexpr):
    tl.no_such_function(cond)


@needs_triton
def test_a_learners_kernel_that_writes_past_the_end_is_found_out():
    result = examine(REGISTRY["guide_kernel"], no_mask)
    assert result.state == FAILED and result.hint == "no mask"


@needs_triton
def test_a_learners_kernel_that_does_not_run_is_reported():
    result = examine(REGISTRY["guide_kernel"], does_not_compile)
    assert result.state == FAILED and "no_such_function" in result.message


def test_a_learners_stub_is_not_attempted():
    def stub(cond, uncond, out, n, w, BLOCK: tl.constexpr):
        """Each program does BLOCK numbers."""
        ...

    assert examine(REGISTRY["guide_kernel"], stub).state == NOT_ATTEMPTED


# ----- the stopwatch -------------------------------------------------------------------------------------------------

ROOF = Ceiling("a device", 1e9, 1e10, [(1000, 1e-6), (10**6, 5e-4), (10**8, 0.2)])


def test_a_ceiling_says_the_least_time_and_what_decides_it():
    assert ROOF.call == 1e-6 and ROOF.cached == pytest.approx(4e9) and ROOF.ridge == pytest.approx(10)
    assert ROOF.limit(Cost(100, 100)) == "calling" and ROOF.least(Cost(100, 100)) == 1e-6
    assert ROOF.limit(Cost(10**6, 10**6)) == "memory" and ROOF.least(Cost(10**6, 10**6)) == pytest.approx(
        1e-3
    )
    assert ROOF.limit(Cost(10**6, 10**8)) == "arithmetic" and ROOF.least(Cost(10**6, 10**8)) == pytest.approx(
        0.01
    )


def test_a_race_runs_its_forms_by_turns_and_tells_slow_from_fast():
    order = []

    def wait(name, work):
        def form():
            order.append(name)
            sum(range(work))

        return form

    times = timing.race({"a": wait("a", 200_000), "b": wait("b", 10)}, seconds=0.0, least=5)
    assert order == ["a", "b"] * 6  # the first turn does not count
    assert times["a"].low <= times["a"].median <= times["a"].high
    assert times["a"].median > times["b"].median


def test_a_real_ceiling_is_above_nothing():
    roof = timing.ceiling("cpu")
    assert roof.bandwidth > 1e8 and roof.peak > 1e8 and 0 < roof.call < 1e-2
    assert [size for size, _ in roof.curve] == [2**power for power in range(10, 28)]


def test_parts_of_a_search_add_up_and_leave_the_model_as_it_was(generator, monkeypatch):
    before = F.scaled_dot_product_attention, torch.cat
    ticks = count()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(ticks)))
    clock = timing._Clock(gpu=False)
    with timing._watched(generator, clock), clock.part(timing.REST):
        codes = sample_masked(generator, [PROMPT] * 2, [0, 1], 0)
    assert sum(clock.spent.values()) == next(ticks) - 1  # all time between the first look and the last
    assert set(clock.spent) == set(PARTS)
    rounds, layers = generator.config.steps, generator.config.layers
    # a tick for each call: one attention a layer, for prompt and empty prompt, in each round; the texts' last layer has none
    assert clock.spent["attention"] == 2 * layers * rounds + 2 * (layers - 1)
    assert clock.spent[timing.HIDE] == clock.spent[timing.DRAW] == clock.spent["head"] == rounds
    assert (F.scaled_dot_product_attention, torch.cat) == before
    assert "head" not in vars(generator) and "project" not in vars(generator.blocks[0])
    assert codes.equal(sample_masked(generator, [PROMPT] * 2, [0, 1], 0))


def test_time_by_part_gives_a_time_for_every_part(generator):
    parts = timing.time_by_part(generator, PROMPT, 2, 0, repeats=2)
    assert list(parts) == list(PARTS) and all(0 < t.low <= t.median <= t.high for t in parts.values())


def test_an_inner_part_stops_the_outer_clock(monkeypatch):
    now = iter([0.0, 1.0, 3.0, 7.0, 7.5])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(now))
    clock = timing._Clock(gpu=False)
    with clock.part("outer"):
        with clock.part("inner"):
            pass
    assert dict(clock.spent) == {"outer": 1.0 + 4.0, "inner": 2.0}


# ----- figures -------------------------------------------------------------------------------------------------------


def words(fig) -> str:
    parts = [t.get_text() for ax in fig.axes for t in (*ax.texts, *ax.get_yticklabels(), ax.title)]
    return "\n".join([*parts, *(ax.get_title(loc="left") for ax in fig.axes)])


def test_copies_are_drawn_with_their_bandwidth():
    fig = figures.copy_figure([ROOF])
    assert "memory 1 GB/s" in words(fig) and "cache 4 GB/s" in words(fig) and "a call" in words(fig)
    assert list(fig.axes[0].lines[0].get_ydata()) == pytest.approx([1, 500, 200_000])


def test_the_roofline_puts_marks_at_their_count_and_their_speed():
    cost, times = Cost(2 * 10**6, 4 * 10**6), {"reference": Timing(0.004, 0.004, 0.004)}
    fig = figures.roofline_figure([ROOF], {"draw": (cost, times)}, stored={"elsewhere": (2e9, 1e12)})
    marks = [line.get_xydata()[0] for line in fig.axes[0].lines if len(line.get_xdata()) == 1]
    assert marks[0] == pytest.approx((2, 2))  # the least: 2 ms, hollow
    assert marks[1] == pytest.approx((2, 1))
    assert "elsewhere (stored)" in [text.get_text() for text in fig.axes[0].get_legend().get_texts()]


def test_the_staircase_marks_the_drawn_code():
    fig = figures.staircase_figure([0.2, 0.5, 0.3], 0.6)
    hatched = [bar for bar in fig.axes[0].patches if bar.get_hatch()]
    assert len(hatched) == 1 and hatched[0].get_x() + hatched[0].get_width() / 2 == pytest.approx(1)


def test_the_ladder_says_how_fast_the_last_rung_is():
    fig = figures.ladder_figure({"slow": Timing(2.0, 1.9, 2.1), "fast": Timing(0.5, 0.5, 0.6)})
    assert "4.0 times as fast" in words(fig) and "+ fast" in words(fig)


def test_amdahl():
    assert figures.speed_up(0.5, 2) == pytest.approx(4 / 3)
    assert figures.speed_up(0.2) == pytest.approx(1.25) and figures.speed_up(0.0) == 1
    parts = {part: Timing(1.0 + i, 1, 1) for i, part in enumerate(PARTS)}
    shares = figures.shares_of(parts)
    assert sum(shares.values()) == pytest.approx(1)
    fig = figures.shares_figure(parts)
    assert words(fig).count("at most") == sum(kernel is not None for kernel in PARTS.values())
    assert "25.0% of the time. 10 times as fast makes the whole 1.290" in figures.amdahl_words(
        {"head": 0.25}, "head", 10
    )


def test_the_explorer_answers_to_its_controls():
    box = figures.amdahl_explorer({part: Timing(1.0, 1, 1) for part in PARTS})
    part, factor, said = box.children
    part.value = "attention"
    factor.value = 2.0
    assert "attention" in said.value and f"{figures.speed_up(1 / 8, 2):.3f}" in said.value


def test_margins_with_the_wrong_sign_are_crossed():
    fig = figures.margins_figure({"early": [0.1, -0.2, 0.3]}, {"early": [0.2, 0.1, 0.3]})
    crosses = [line for line in fig.axes[0].lines if line.get_marker() == "X"]
    assert crosses[0].get_xydata().tolist() == [[-0.2, 0.1]]


# ----- stored rows ---------------------------------------------------------------------------------------------------

HEAD = ("kernel", "case", "form", "ms", "floor_ms", "copy_gb_s", "product_tflop_s", "dtype", "device", "date")


def write(folder, rows):
    with (folder / "kernels.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([HEAD, *rows])


def row(form, ms, device="2 CPU cores, x86_64", date="2026-01-01", copy="40"):
    return ("masked_sample", "844 rows", form, ms, "0.1", copy, "0.2", "float32", device, date)


def test_of_rows_for_the_same_thing_the_last_one_stands(tmp_path):
    write(
        tmp_path,
        [row("reference", "1.0"), row("as released", "9"), row("reference", "0.5", date="2026-02-01")],
    )
    rows = figures.stored_rows("kernels.csv", tmp_path)
    assert [(r["form"], r["ms"]) for r in rows] == [("reference", "0.5"), ("as released", "9")]
    assert figures.stored_rows("none.csv", tmp_path) == []


def test_without_a_gpu_row_the_figure_says_so(tmp_path):
    write(tmp_path, [row("reference", "0.5"), row("as released", "9")])
    rows = figures.stored_rows("kernels.csv", tmp_path)
    fig = figures.stored_figure(rows)
    assert "No GPU row has been measured yet" in words(fig) and "course.py bench" in words(fig)
    at = {
        line.get_color(): line.get_xdata()[0] for line in fig.axes[0].lines if line.get_linestyle() == "None"
    }
    assert at == {
        figures.look("reference")[0]: pytest.approx(5),
        figures.look("as released")[0]: pytest.approx(90),
    }


def test_gpu_rows_have_a_panel_of_their_own(tmp_path):
    card = "NVIDIA H200"
    write(
        tmp_path,
        [
            row("reference", "0.5"),
            row("kernel", "0.2", card, copy="4000"),
            row("as released", "", card, copy=""),
        ],
    )
    rows = figures.stored_rows("kernels.csv", tmp_path)
    fig = figures.stored_figure(rows)
    assert "No GPU row" not in words(fig) and card in words(fig)
    assert figures.devices_of(rows) == {"2 CPU cores, x86_64": (40e9, 0.2e12), card: (4000e9, 0.2e12)}


def test_forms_are_told_apart_by_colour_and_shape():
    forms = ("as released", "separate steps", "reference", "torch.compile, reduce-overhead", "kernel", "kernel in a CUDA graph", "Liger-Kernel")  # fmt: skip
    looks = [figures.look(form) for form in forms]
    assert looks[0] == looks[1] and len(set(looks[1:])) == 6
    assert len({color for color, *_ in looks[1:]}) == len({marker for _, marker, _ in looks[1:]}) == 6


def test_the_repositorys_rows_can_be_drawn():
    if rows := figures.stored_rows("kernels.csv"):
        assert len(compact_png(figures.stored_figure(rows))[0]) <= MAX_BYTES
        assert {r["kernel"] for r in rows} <= set(figures.KERNELS)
        assert np.isfinite([b for pair in figures.devices_of(rows).values() for b in pair]).all()


# ----- listings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function", (lessons.rounds, lessons.kth_smallest, lessons.draw), ids=lambda f: f.__name__
)
def test_a_folded_listing_is_narrow_and_the_same_code(function):
    source = inspect.getsource(function)
    listing = lessons.folded(source)
    assert max(map(len, listing.splitlines())) <= 78 < max(map(len, source.splitlines()))
    whole, narrow = (re.sub(r"(\\n|\s)+", " ", ast.dump(ast.parse(text))) for text in (source, listing))
    assert whole == narrow
