"""The checks are tested themselves: the right answer passes, typical wrong ones get the hint meant for them.

The answers are written here as a learner would write them, apart from the registry's own list of mistakes. The right
ones are independent of the library's code as well.
"""

import math
import random

import answers_kernels as kernels
import answers_preference as preference
import answers_published as published
import answers_together as together
import numpy as np
import pytest
import torch

from cotlib.lab.checks import FAILED, NOT_ATTEMPTED, PASSED, examine
from cotlib.lab.exercises import REGISTRY
from cotlib.verifying import parse_words

# --- right answers


def pack_digits(digits):
    code = 0
    for i in range(5):
        code = code + digits[..., i] * 4 ** (4 - i)
    return code


def straight_through(z):
    levels = torch.tensor([-1, -1 / 3, 1 / 3, 1])
    nearest = levels[(z.detach()[..., None] - levels).abs().argmin(-1)]
    return nearest + z - z.detach()


def masked_count(step, steps, n_tokens, unknown):
    if step + 1 == steps:
        return 0
    count = int(n_tokens * np.cos(np.pi * (step + 1) / (2 * steps)))
    count = unknown - 1 if count > unknown - 1 else count
    return 1 if count < 1 else count


def masked_step(confidence, known, left):
    masked = torch.zeros_like(known)
    for row in range(len(known)):
        unknown = [i for i in range(known.shape[1]) if not known[row, i]]
        for i in sorted(unknown, key=lambda i: confidence[row, i].item())[:left]:
            masked[row, i] = True
    return masked


def guide(cond, uncond, w):
    return cond + w * (cond - uncond)


def relative_position(a, b):
    found = set()
    ax, ay, bx, by = (a[0] + a[2]) / 2, (a[1] + a[3]) / 2, (b[0] + b[2]) / 2, (b[1] + b[3]) / 2
    distance = np.hypot(ax - bx, ay - by)
    cut_x = 0.1 * ((a[2] - a[0]) + (b[2] - b[0]))
    cut_y = 0.1 * ((a[3] - a[1]) + (b[3] - b[1]))
    if bx - ax - cut_x > 0.5 * distance:
        found.add("left of")
    if ax - bx - cut_x > 0.5 * distance:
        found.add("right of")
    if by - ay - cut_y > 0.5 * distance:
        found.add("above")
    if ay - by - cut_y > 0.5 * distance:
        found.add("below")
    return found


def resampled(rows, repeats=3000, level=0.95, task_of=lambda task: task, draw=random.choices, pictures=False):
    rng = random.Random(11)
    tasks = {}
    for task, scores in rows:
        tasks.setdefault(task_of(task), []).extend([[s] for s in scores] if pictures else [scores])
    means = [[sum(s) / len(s) for s in group] for group in tasks.values()]
    value = sum(sum(m) / len(m) for m in means) / len(means)
    random_draw = rng.choices if draw is random.choices else rng.sample
    draws = sorted(
        sum(sum(random_draw(m, k=len(m))) / len(m) for m in means) / len(means) for _ in range(repeats)
    )
    tail = (1 - level) / 2
    return value, draws[int(tail * repeats)], draws[int((1 - tail) * repeats) - 1]


def bootstrap_interval(rows, repeats=2000):
    return resampled(rows, repeats)


def coverage(correct, n, k):
    all_wrong = 1.0
    for i in range(k):
        all_wrong *= max(n - correct - i, 0) / (n - i)
    return 1 - all_wrong


def p_yes(logits, yes, no):
    answer = []
    for row in logits.double():
        shift = max(row[yes].item(), row[no].item())
        a, b = math.exp(row[yes].item() - shift), math.exp(row[no].item() - shift)
        answer.append(a / (a + b))
    return torch.tensor(answer)


def pick_each(scores, n):
    table = np.array(scores).reshape(-1, n)
    chosen = [max(range(n), key=lambda k: (row[k], -k)) for row in table]
    return chosen, [int((row == row[k]).sum()) for row, k in zip(table, chosen, strict=True)]


def ranking(probabilities, truth, prompts):
    won = pairs = 0
    rows = list(zip(probabilities, truth, prompts, strict=True))
    for p, right, prompt in rows:
        for q, other, same in rows:
            if right and not other and prompt == same:
                pairs += 1
                won += 1 if p > q else 0.5 if p == q else 0
    return won / pairs


def understand(words, metadata, seen):
    accepted, faults, left = list(words) == ["yes"], [], list(words)
    asked = [clause["class"] for clause in metadata["include"]]
    about = asked + [d.cls for d in seen]
    for fault in parse_words(left)[0]:
        wish = fault.to_cls if fault.kind == "wrong" and fault.to_cls is not None else fault.cls
        if fault.cls in about and (fault.kind == "extra" or wish in asked):
            faults.append(fault)
    return accepted, faults


def until_accepted(picture, reflect, correct, rounds=3):
    used = 0
    while used < rounds:
        accepted, _, words = reflect(picture)
        if accepted:
            return picture
        picture, used = correct(picture, words), used + 1
    return picture


def three_tasks(clarity, potential, final, clear, promising):
    n, steps = len(clarity), len(clarity[0])
    stopped, promises = [-1] * n, {}
    for k in range(n):
        for s in range(steps):
            if clarity[k][s] >= clear:
                promises[k] = potential[k][s]
                if potential[k][s] < promising:
                    stopped[k] = s
                break
    pool = [k for k in promises if stopped[k] == -1]
    if pool:
        chosen = max(pool, key=lambda k: (final[k], -k))
    elif promises:
        chosen = max(promises, key=lambda k: (promises[k], -k))
    else:
        chosen = max(range(n), key=lambda k: (final[k], -k))
    return chosen, np.array(stopped)


def keep_rows(go_on, codes, masked, uniforms, text):
    rows = [b for b in range(len(go_on)) if go_on[b]]
    return tuple(torch.stack([part[b] for b in rows]) for part in (codes, masked, uniforms, text))


def step_labels(right, own):
    labels = [bool(sum(row)) for row in right.tolist()]
    return torch.tensor([*labels, own])


def keep_branches(history, n):
    table = np.array(history[-1]).reshape(-1, n)
    return [int(k) for k in table.argmax(1)]


RIGHT = [
    pack_digits, straight_through, masked_count, masked_step, guide, relative_position, bootstrap_interval, coverage,
    p_yes, pick_each, ranking,
    understand, until_accepted,
    three_tasks, keep_rows,
    step_labels, keep_branches,
    *preference.RIGHT, *together.RIGHT, *kernels.RIGHT, *published.RIGHT,
]  # fmt: skip


# --- wrong answers: exercise, a learner's function, a piece of the hint it must get


def horner_from_the_end(digits):
    code = torch.zeros_like(digits[..., 0])
    for i in (4, 3, 2, 1, 0):
        code = 4 * code + digits[..., i]
    return code


def horner_base_five(digits):
    code = torch.zeros_like(digits[..., 0])
    for i in range(5):
        code = 5 * code + digits[..., i]
    return code


def matmul_in_floats(digits):
    return digits.float() @ torch.tensor([256.0, 64.0, 16.0, 4.0, 1.0])


def only_rounded(z):
    return (torch.round(z * 1.5 + 1.5) - 1.5) / 1.5


def forgot_detach(z):
    return z + (only_rounded(z) - z)


def under_no_grad(z):
    with torch.no_grad():
        return only_rounded(z)


def detached_the_wrong_thing(z):
    return z.detach() + only_rounded(z) - z.detach()


def rounded_to_integers(z):
    return z + (z.round() - z).detach()


def truncated(z):
    return z + ((z * 1.5 + 1.5).long() / 1.5 - 1 - z).detach()


def schedule(
    step, steps, n, unknown, progress=1, shape=math.cos, keep=1, to_int=math.floor, turn=math.pi / 2
):
    if step == steps - 1:
        return 0
    return max(keep, min(unknown - 1, to_int(n * shape(turn * (step + progress) / steps))))


def never_finishes(step, steps, n, unknown):
    return max(1, min(unknown - 1, int(n * math.cos(math.pi * (step + 1) / steps / 2))))


def forgets_unknown(step, steps, n, unknown):
    return 0 if step == steps - 1 else max(1, int(n * math.cos(math.pi * (step + 1) / steps / 2)))


def linear_schedule(step, steps, n, unknown):
    return 0 if step == steps - 1 else max(1, min(unknown - 1, int(n * (1 - (step + 1) / steps))))


def masks_the_surest(confidence, known, left):
    chosen = confidence.masked_fill(known, -1e9).topk(left, dim=-1).indices
    return torch.zeros_like(known).scatter(-1, chosen, True)


def masks_known_ones(confidence, known, left):
    chosen = confidence.topk(left, dim=-1, largest=False).indices
    return torch.zeros_like(known).scatter(-1, chosen, True)


def clears_known_later(confidence, known, left):
    return masks_known_ones(confidence, known, left) & ~known


def returns_what_is_kept(confidence, known, left):
    return ~masked_step(confidence, known, left)


def over_the_whole_batch(confidence, known, left):
    flat = confidence.masked_fill(known, 1e9).flatten()
    masked = torch.zeros_like(flat, dtype=torch.bool)
    masked[flat.argsort()[: left * len(known)]] = True
    return masked.view(known.shape)


def threshold_included(confidence, known, left):
    score = confidence.masked_fill(known, 1e9)
    return score <= score.sort(-1).values[:, left : left + 1]


def swapped_boxes(a, b):
    return relative_position(b, a)


def mirrored(names):
    def wrong(a, b):
        return {names.get(name, name) for name in relative_position(a, b)}

    return wrong


def centres_only(a, b):
    dx, dy = (a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2
    distance = math.hypot(dx, dy) or 1.0
    names = {"left of": -dx, "right of": dx, "above": -dy, "below": dy}
    return {name for name, along in names.items() if along / distance > 0.5}


def normalised_after(a, b, bar=0.5):
    d = np.array([a[0] + a[2] - b[0] - b[2], a[1] + a[3] - b[1] - b[3]]) / 2
    sizes = np.array([a[2] - a[0] + b[2] - b[0], a[3] - a[1] + b[3] - b[1]])
    rest = np.sign(d) * np.maximum(np.abs(d) - 0.1 * sizes, 0)
    if np.linalg.norm(rest) < 1e-3:
        return set()
    x, y = rest / np.linalg.norm(rest)
    names = {"left of": -x, "right of": x, "above": -y, "below": y}
    return {name for name, along in names.items() if along > bar}


def any_shift(a, b):
    return normalised_after(a, b, bar=0.0)


def one_relation(a, b):
    found = relative_position(a, b)
    if len(found) < 2:
        return found
    dx, dy = abs(a[0] + a[2] - b[0] - b[2]), abs(a[1] + a[3] - b[1] - b[3])
    return found & ({"left of", "right of"} if dx >= dy else {"above", "below"})


def mean_of_all_prompts(rows):
    rng = np.random.default_rng(3)
    tasks = [task for task, _ in rows]
    means = np.array([np.mean(scores) for _, scores in rows])
    draws = np.zeros(3000)
    for task in set(tasks):
        mine = means[[t == task for t in tasks]]
        draws += mine[rng.integers(len(mine), size=(3000, len(mine)))].sum(1) / len(means)
    return means.mean(), *np.percentile(draws, [2.5, 97.5])


def ends_exchanged(rows):
    value, low, high = resampled(rows)
    return value, high, low


def one_standard_error(rows):
    value, low, high = resampled(rows)
    error = (high - low) / 3.92
    return value, value - error, value + error


def whole_vocabulary(logits, yes, no):
    return torch.softmax(logits, dim=1)[:, yes]


def softmax_over_pictures(logits, yes, no):
    return torch.softmax(logits[:, [yes, no]], dim=0)[:, 0]


def from_the_sampler(logits, yes, no):
    p = p_yes(logits, yes, no)
    return torch.where(p >= 0.8, 1.0, torch.where(p <= 0.2, 0.0, p))


def exponentials(logits, yes, no):
    return torch.exp(logits[:, yes]) / (torch.exp(logits[:, yes]) + torch.exp(logits[:, no]))


def last_of_equals(scores, n):
    rows = [scores[i : i + n] for i in range(0, len(scores), n)]
    chosen = [max(range(n), key=lambda k: (row[k], k)) for row in rows]
    return chosen, [row.count(max(row)) for row in rows]


def numbered_over_all(scores, n):
    chosen, ties = pick_each(scores, n)
    return [i * n + k for i, k in enumerate(chosen)], ties


def grouped_by_path(scores, n):
    table = np.array(scores).reshape(n, -1).T
    return table.argmax(1).tolist(), (table == table.max(1, keepdims=True)).sum(1).tolist()


def area_under_the_curve(probabilities, truth, prompts):
    return ranking(probabilities, truth, ["the same"] * len(prompts))


def strictly_higher(probabilities, truth, prompts, ties=0.0):
    pairs = [
        1.0 if p > q else ties if p == q else 0.0
        for p, right, a in zip(probabilities, truth, prompts, strict=True)
        for q, other, b in zip(probabilities, truth, prompts, strict=True)
        if right and not other and a == b
    ]
    return sum(pairs) / len(pairs)


def prompt_by_prompt(probabilities, truth, prompts):
    rows = list(zip(probabilities, truth, prompts, strict=True))
    parts = [[r for r in rows if r[2] == name] for name in sorted(set(prompts))]
    return float(np.mean([ranking(*zip(*part, strict=True)) for part in parts]))


def accepts_what_cannot_be_read(words, metadata, seen):
    accepted, faults = understand(words, metadata, seen)
    return accepted or len(parse_words(words)[0]) == 0, faults


def accepts_without_faults(words, metadata, seen):
    faults = understand(words, metadata, seen)[1]
    return len(faults) == 0, faults


def keeps_all_faults(words, metadata, seen):
    return words == ("yes",), parse_words(words)[0]


def about_the_prompt_only(words, metadata, seen):
    return understand(words, metadata, [])


def whole_sentences_only(words, metadata, seen):
    accepted, faults = understand(words, metadata, seen)
    return accepted, [] if parse_words(words)[1] else faults


def all_rounds(picture, reflect, correct, rounds=3):
    for _ in range(rounds):
        picture = correct(picture, reflect(picture)[2])
    return picture


def best_of_all_rounds(picture, reflect, correct, rounds=3):
    scored = []
    for _ in range(rounds):
        _, p, words = reflect(picture)
        scored.append((p, picture))
        picture = correct(picture, words)
    return max([*scored, (reflect(picture)[1], picture)])[1]


def counts_one_more(picture, reflect, correct, rounds=3):
    return until_accepted(picture, reflect, correct, rounds + 1)


def looks_once_more(picture, reflect, correct, rounds=3):
    for used in range(rounds + 1):
        accepted, _, words = reflect(picture)
        if accepted or used == rounds:
            return picture
        picture = correct(picture, words)


def keeps_the_original(picture, reflect, correct, rounds=3):
    answers = []
    last = until_accepted(picture, lambda p: answers.append(reflect(p)) or answers[-1], correct, rounds)
    return last if answers and answers[-1][0] else picture


def potential_asked_again(clarity, potential, final, clear, promising):
    stopped, first = [-1] * len(clarity), {}
    for k in range(len(clarity)):
        for s in range(clarity.shape[1]):
            if stopped[k] == -1 and clarity[k, s] >= clear:
                first.setdefault(k, potential[k, s])
                if potential[k, s] < promising:
                    stopped[k] = s
    left = [k for k in first if stopped[k] == -1]
    if left:
        return max(left, key=lambda k: final[k]), np.array(stopped)
    return (max(first, key=first.get) if first else int(np.argmax(final))), np.array(stopped)


def stops_counted_from_one(*answers):
    chosen, stopped = three_tasks(*answers)
    return chosen, np.where(stopped >= 0, stopped + 1, -1)


def final_of_all(clarity, potential, final, clear, promising):
    return int(np.argmax(final)), three_tasks(clarity, potential, final, clear, promising)[1]


def path_0_when_none_is_left(clarity, potential, final, clear, promising):
    chosen, stopped = three_tasks(clarity, potential, final, clear, promising)
    seen = (clarity >= clear).any(1)
    return (0 if seen.any() and not (seen & (stopped < 0)).any() else chosen), stopped


def only_the_codes_shrink(go_on, codes, masked, uniforms, text):
    return codes[go_on], masked[go_on], uniforms[: go_on.sum()], text[go_on]


def sorted_to_the_front(go_on, codes, masked, uniforms, text):
    order = torch.arange(len(go_on))[go_on].tolist()[::-1]
    return codes[order], masked[order], uniforms[order], text[order]


WRONG = [
    ("pack_digits", horner_from_the_end, "turned round"),
    ("pack_digits", horner_base_five, "base 5"),
    ("pack_digits", matmul_in_floats, "floats"),
    ("pack_digits", lambda d: d.sum(-1), "without weights"),
    ("pack_digits", lambda d: 4 * pack_digits(d), "4 times too large"),
    ("pack_digits", lambda d: (d * 10 ** torch.arange(4, -1, -1)).sum(-1), "decimal"),
    ("straight_through", only_rounded, "the gradient is 0"),
    ("straight_through", forgot_detach, "the gradient is 0"),
    ("straight_through", detached_the_wrong_thing, "the gradient is 0"),
    ("straight_through", under_no_grad, "cut off from z"),
    ("straight_through", rounded_to_integers, "whole numbers -1, 0, 1"),
    ("straight_through", truncated, "round down"),
    ("straight_through", lambda z: z + (torch.round(1.5 * z + 1.5) - z).detach(), "not scaled back"),
    ("straight_through", lambda z: z + (torch.round(2 * z) / 2 - z).detach(), "5 levels"),
    ("straight_through", lambda z: z.clone(), "not rounded"),
    ("masked_count", lambda *a: schedule(*a, progress=0), "(step + 1)/steps"),
    ("masked_count", never_finishes, "return 0"),
    ("masked_count", forgets_unknown, "unknown - 1"),
    ("masked_count", linear_schedule, "linear"),
    ("masked_count", lambda *a: schedule(*a, shape=math.sin), "sine"),
    ("masked_count", lambda *a: schedule(*a, to_int=round), "nearest whole"),
    ("masked_count", lambda *a: schedule(*a, to_int=math.ceil), "round up"),
    ("masked_count", lambda *a: schedule(*a, keep=0), "at least 1"),
    ("masked_count", lambda *a: schedule(*a, turn=math.pi), "quarter turn"),
    ("masked_step", masks_the_surest, "most sure"),
    ("masked_step", masks_known_ones, "infinite confidence"),
    ("masked_step", clears_known_later, "too few"),
    ("masked_step", returns_what_is_kept, "opposite"),
    ("masked_step", over_the_whole_batch, "whole batch"),
    ("masked_step", threshold_included, "too many"),
    ("masked_step", lambda c, k, m: masked_step(c, k, m + 1), "too many"),
    ("masked_step", lambda c, k, m: masked_step(c, k, max(m - 1, 0)), "too few"),
    ("guide", lambda c, u, w: guide(u, c, w), "changed places"),
    ("guide", lambda c, u, w: u + w * (c - u), "w = 0 means none"),
    ("guide", lambda c, u, w: c + w * (c + u), "subtracted"),
    ("guide", lambda c, u, w: w * (c - u), "1 + w"),
    ("guide", lambda c, u, w: c - w * u, "do not add up"),
    ("guide", lambda c, u, w: torch.softmax(guide(c, u, w), -1), "already took the softmax"),
    ("guide", lambda c, u, w: guide(c.softmax(-1), u.softmax(-1), w), "probabilities"),
    ("relative_position", swapped_boxes, "relation of b to a"),
    ("relative_position", mirrored({"above": "below", "below": "above"}), "downwards"),
    ("relative_position", mirrored({"left of": "right of", "right of": "left of"}), "smaller x"),
    ("relative_position", centres_only, "tenth of both sizes"),
    ("relative_position", normalised_after, "length before"),
    ("relative_position", any_shift, "any shift"),
    ("relative_position", one_relation, "one relation at most"),
    ("bootstrap_interval", lambda rows: resampled(rows, repeats=600, pictures=True), "single pictures"),
    ("bootstrap_interval", mean_of_all_prompts, "mean of the task means"),
    (
        "bootstrap_interval",
        lambda rows: resampled(rows, repeats=2000, task_of=lambda task: "all"),
        "within each task",
    ),
    ("bootstrap_interval", lambda rows: resampled(rows, level=0.9), "90 %"),
    ("bootstrap_interval", lambda rows: resampled(rows, draw=random.sample), "no width"),
    ("bootstrap_interval", ends_exchanged, "exchanged"),
    ("bootstrap_interval", one_standard_error, "one standard error"),
    ("coverage", lambda c, n, k: 1 - coverage(c, n, k), "all k are wrong"),
    ("coverage", lambda c, n, k: 1 - (1 - c / n) ** k, "replacement"),
    ("coverage", lambda c, n, k: math.comb(c, k) / math.comb(n, k), "all k are right"),
    ("coverage", lambda c, n, k: min(k * c / n, 1), "twice"),
    ("coverage", lambda c, n, k: c / n, "one picture"),
    ("coverage", lambda c, n, k: 1.0 if c else 0.0, "all n pictures"),
    ("p_yes", whole_vocabulary, "whole vocabulary"),
    ("p_yes", softmax_over_pictures, "over the batch"),
    ("p_yes", from_the_sampler, "top-p filter"),
    ("p_yes", exponentials, "infinite by infinite"),
    ("p_yes", lambda x, yes, no: 1 - p_yes(x, yes, no), "P(no)"),
    ("p_yes", lambda x, yes, no: x[:, yes] - x[:, no], "margin itself"),
    ("p_yes", lambda x, yes, no: torch.exp(x[:, yes] - x[:, no]), "odds"),
    ("p_yes", lambda x, yes, no: torch.sigmoid(x[:, yes]), "yes alone"),
    ("p_yes", lambda x, yes, no: p_yes(x / 0.7, yes, no), "temperature"),
    ("p_yes", lambda x, yes, no: (p_yes(x, yes, no) > 0.5) * 1.0, "verdict"),
    ("pick_each", last_of_equals, "you take the last"),
    ("pick_each", numbered_over_all, "whole list"),
    ("pick_each", grouped_by_path, "every P-th"),
    ("pick_each", lambda s, n: pick_each([-x for x in s], n), "lowest score"),
    ("pick_each", lambda s, n: ([k + 1 for k in pick_each(s, n)[0]], pick_each(s, n)[1]), "start at 0"),
    ("pick_each", lambda s, n: pick_each(s, len(s)), "different prompts"),
    (
        "pick_each",
        lambda s, n: (pick_each(s, n)[0], [t - 1 for t in pick_each(s, n)[1]]),
        "winner counts too",
    ),
    ("ranking", area_under_the_curve, "different prompts"),
    ("ranking", strictly_higher, "counts nothing"),
    ("ranking", lambda *a: strictly_higher(*a, ties=1.0), "always says 0.5"),
    ("ranking", prompt_by_prompt, "every pair counts"),
    ("ranking", lambda p, t, q: 1 - ranking(p, t, q), "wrong picture scores higher"),
    ("ranking", lambda p, t, q: np.mean([(x > 0.5) == r for x, r in zip(p, t, strict=True)]), "no threshold"),
    ("understand", accepts_what_cannot_be_read, "no yes"),
    ("understand", accepts_without_faults, "stays a refusal"),
    ("understand", lambda w, m, s: ("yes" in w, understand(w, m, s)[1]), "among the words"),
    ("understand", keeps_all_faults, "keep every fault"),
    ("understand", about_the_prompt_only, "prompt does not name"),
    ("understand", whole_sentences_only, "faults before it are whole"),
    ("until_accepted", all_rounds, "first accepted picture wins"),
    ("until_accepted", best_of_all_rounds, "highest P(yes). The first accepted"),
    ("until_accepted", counts_one_more, "at most 3 corrections"),
    ("until_accepted", lambda p, r, c, n=3: until_accepted(p, r, c, n - 1), "corrected 3 times"),
    ("until_accepted", looks_once_more, "paid for"),
    ("until_accepted", keeps_the_original, "picture you began with"),
    ("three_tasks", potential_asked_again, "asked once"),
    ("three_tasks", stops_counted_from_one, "one step late"),
    ("three_tasks", final_of_all, "promising ones only"),
    ("three_tasks", path_0_when_none_is_left, "highest POTENTIAL"),
    ("keep_rows", only_the_codes_shrink, "random numbers"),
    ("keep_rows", sorted_to_the_front, "another order"),
    ("keep_rows", lambda g, c, m, u, t: (c[~g], m[~g], u[~g], t[~g]), "those that go on"),
    ("keep_rows", lambda g, c, m, u, t: (c[g], m[g], u[g], t), "own prompt"),
    (
        "step_labels",
        lambda r, own: torch.cat([r.float().mean(1), torch.tensor([float(own)])]),
        "share of right",
    ),
    (
        "step_labels",
        lambda r, own: torch.tensor([sum(x) > len(x) / 2 for x in r.tolist()] + [own]),
        "a majority",
    ),
    (
        "step_labels",
        lambda r, own: torch.tensor([sum(x) >= len(x) / 2 for x in r.tolist()] + [own]),
        "ask for half",
    ),
    ("step_labels", lambda r, own: torch.tensor([all(x) for x in r.tolist()] + [own]), "all continuations"),
    ("step_labels", lambda r, own: torch.tensor([own] * (len(r) + 1)), "one roll of the dice"),
    (
        "step_labels",
        lambda r, own: torch.tensor([any(x) or own for x in r.tolist()] + [own]),
        "one more continuation",
    ),
    ("step_labels", lambda r, own: torch.tensor([any(x) for x in r.tolist()]), "last step has no label"),
    ("step_labels", lambda r, own: torch.tensor([any(x) for x in r.T.tolist()] + [own]), "down the states"),
    ("keep_branches", lambda h, n: keep_branches([np.array(h).sum(0)], n), "add up"),
    ("keep_branches", lambda h, n: keep_branches([np.array(h).max(0)], n), "any step"),
    ("keep_branches", lambda h, n: keep_branches(h[:1], n), "first row"),
    ("keep_branches", lambda h, n: [int(np.argmax(h[-1])) % n] * (len(h[-1]) // n), "whole batch"),
    (
        "keep_branches",
        lambda h, n: [i * n + k for i, k in enumerate(keep_branches(h, n))],
        "places in the whole list",
    ),
    ("keep_branches", lambda h, n: keep_branches([[-x for x in h[-1]]], n), "likes least"),
    (
        "keep_branches",
        lambda h, n: [n - 1 - k for k in keep_branches([h[-1][::-1]], n)][::-1],
        "keep the last",
    ),
    ("keep_branches", lambda h, n: np.array(h[-1]).reshape(n, -1).argmax(0).tolist(), "every P-th"),
    *preference.WRONG,
    *together.WRONG,
    *kernels.WRONG,
    *published.WRONG,
]


@pytest.mark.parametrize("answer", RIGHT, ids=lambda fn: fn.__name__)
def test_right_answer_passes(answer):
    result = examine(REGISTRY[answer.__name__], answer)
    assert result.state == PASSED, result.message


@pytest.mark.parametrize(("name", "answer", "words"), WRONG, ids=[f"{n}-{w}" for n, _, w in WRONG])
def test_wrong_answer_gets_its_hint(name, answer, words):
    result = examine(REGISTRY[name], answer)
    assert result.state == FAILED
    assert result.hint, f"recognised as no known mistake: {result.message}"
    assert words in result.message


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_exercise_accepts_the_library_and_tells_its_mistakes_apart(name):
    exercise = REGISTRY[name]
    assert examine(exercise, exercise.reference()).state == PASSED
    assert len(exercise.mistakes) >= 3
    for mistake in exercise.mistakes:
        assert examine(exercise, mistake.fn).hint == mistake.name


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_exercise_has_a_right_and_enough_wrong_answers_here(name):
    assert name in {answer.__name__ for answer in RIGHT}
    assert len([1 for exercise, _, _ in WRONG if exercise == name]) >= 3


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_unfinished_stubs_are_not_attempted(name):
    def returns_nothing(*args):
        """The stub as it stands in the notebook."""

    def returns_ellipsis(*args):
        return ...

    def raises(*args):
        raise NotImplementedError("your code here")

    for stub in (returns_nothing, returns_ellipsis, raises, None, ...):
        assert examine(REGISTRY[name], stub).state == NOT_ATTEMPTED


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_a_crash_is_reported_with_its_reason(name):
    def crashes(*args):
        return args[0].no_such_thing

    result = examine(REGISTRY[name], crashes)
    assert result.state == FAILED and "AttributeError" in result.message and "input:" in result.message


def test_unknown_mistake_shows_the_first_difference():
    result = examine(REGISTRY["guide"], lambda c, u, w: 0.123 * c)
    assert result.state == FAILED and result.hint == "" and "expected:" in result.message


def test_writing_into_the_arguments_spoils_nothing():
    def greedy(confidence, known, left):
        answer = masked_step(confidence, known, left)
        confidence.zero_()
        known.fill_(True)
        return answer

    assert examine(REGISTRY["masked_step"], greedy).state == PASSED


def test_pictures_of_the_pairing_exercise_show_every_kind_of_prompt():
    """More right, more wrong, as many of both, one kind only; else a mistake could not show."""
    kinds = set()
    for pictures, _ in REGISTRY["pair_up"].inputs():
        for prompt in set(pictures.prompts):
            right = [
                bool(ok)
                for text, ok in zip(pictures.prompts, pictures.correct, strict=True)
                if text == prompt
            ]
            kinds.add(
                (any(right), not all(right), 2 * sum(right) - len(right) > 0, 2 * sum(right) == len(right))
            )
    assert {(True, True, True, False), (True, True, False, False), (True, True, False, True)} < kinds
    assert {(True, False, True, False), (False, True, False, False)} < kinds
