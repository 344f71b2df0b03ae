"""GenEval's decision rules: from detections to right or wrong, without any model.

The rules are those of `evaluate_images.py` of GenEval (arXiv 2310.11513, github.com/djghosh13/geneval).
The surprising part is the position rule: "left of" is decided on the offset of the centres *after* a
tenth of both sizes was taken off, but divided by the length of the offset *before* that, so two things
that are almost aligned diagonally may be in two relations at once, and two that touch may be in none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from cotlib.interfaces import Detection, Verdict
from cotlib.judging.stats import task_means
from cotlib.world.prompts import article, plural

THRESHOLD = 0.3  # a detection counts when its score is above this ...
COUNTING_THRESHOLD = 0.9  # ... or above this in the task "counting"
MAX_OBJECTS = 16  # at most this many detections of one class, best first
POSITION_OFFSET = 0.1  # share of both sizes taken off the distance of two centres
POSITION_COSINE = 0.5  # the rest must point this much along an axis

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels, y grows downwards


def judge_detections(metadata: dict, detections: Iterable[Detection]) -> Verdict:
    """Is what was detected what the prompt asks for?

    metadata: GenEval's form, {tag, include: [{class, count, color?, position?: [relation, index]}],
    exclude?: [{class, count}]}.  All clauses must hold; the verdict has one sentence per clause that does not.
    """
    found = group_detections(detections, metadata.get("tag"))
    reasons: list[str] = []
    groups: list[list[Detection]] = []  # per include clause the objects that met it, empty when it failed
    for clause in metadata.get("include", []):
        best = found[clause["class"]][: clause["count"]]
        failures = _count_failure(clause, best) or _color_failure(clause, best)
        failures = failures or _position_failure(clause, best, groups, metadata["include"])
        reasons += failures
        groups.append([] if failures else best)
    for clause in metadata.get("exclude", []):
        reasons += _exclude_failure(clause, found[clause["class"]])
    return Verdict(correct=not reasons, reasons=tuple(reasons))


def group_detections(detections: Iterable[Detection], task: str | None) -> dict[str, list[Detection]]:
    """Detections above the task's threshold, by class, best score first, at most 16 of a class.

    Equal scores are ordered by box and colour, so that the input's order never matters.
    """
    threshold = COUNTING_THRESHOLD if task == "counting" else THRESHOLD
    found: dict[str, list[Detection]] = defaultdict(list)
    for detection in sorted(detections, key=lambda d: (-d.score, d.box, d.color or "")):
        if detection.score > threshold and len(found[detection.cls]) < MAX_OBJECTS:
            found[detection.cls].append(detection)
    return found


def relative_position(box_a: Box, box_b: Box) -> frozenset[str]:
    """The relations of a to b: a subset of "left of", "right of", "above", "below"; may be empty or two.

    d = centre_a - centre_b;  d' = sign(d) max(|d| - 0.1 (size_a + size_b), 0) per axis;
    the relation along an axis holds when d' / |d| is beyond 0.5.
    """
    shift = [(a0 + a1) / 2 - (b0 + b1) / 2 for a0, a1, b0, b1 in _axes(box_a, box_b)]
    sizes = [abs(a1 - a0) + abs(b1 - b0) for a0, a1, b0, b1 in _axes(box_a, box_b)]
    rest = [max(abs(d) - POSITION_OFFSET * size, 0.0) for d, size in zip(shift, sizes, strict=True)]
    if max(rest) < 1e-3:
        return frozenset()
    length = (shift[0] ** 2 + shift[1] ** 2) ** 0.5
    names = (("left of", "right of"), ("above", "below"))
    return frozenset(
        pair[d > 0] for d, r, pair in zip(shift, rest, names, strict=True) if r / length > POSITION_COSINE
    )


def overall(rows: Sequence[tuple[str, Sequence[float]]]) -> float:
    """GenEval's overall: the plain mean of the task means, however many prompts each task has.

    rows: one (task, scores of that prompt's pictures) per prompt, scores 0 or 1.
    """
    means = task_means(rows)
    return sum(mean for mean, _ in means.values()) / len(means)


def _axes(a: Box, b: Box):
    """(start, end) of both boxes along x, then along y."""
    return (a[0], a[2], b[0], b[2]), (a[1], a[3], b[1], b[3])


def _count_failure(clause: dict, best: list[Detection]) -> list[str]:
    if len(best) >= clause["count"]:
        return []
    return [f"Asked for {_amount(clause)}; found {len(best) or 'none'}."]


def _color_failure(clause: dict, best: list[Detection]) -> list[str]:
    color, count, name = clause.get("color"), clause["count"], clause["class"]
    if color is None or sum(d.color == color for d in best) >= count:
        return []
    seen = " and ".join(d.color or "of no clear colour" for d in best)
    return [f"Asked for the colour {color}; the {name} is {seen}."]


def _position_failure(clause: dict, best: list[Detection], groups: list, include: list[dict]) -> list[str]:
    if "position" not in clause:
        return []
    relation, index = clause["position"]
    name, other = clause["class"], include[index]["class"]
    if not groups[index]:
        return [f"The {name} cannot be {relation} {article(other)} {other} that is missing or wrong."]
    for a in best:
        for b in groups[index]:
            relations = relative_position(a.box, b.box)
            if relation not in relations:
                is_now = " and ".join(sorted(relations)) or "too close to be on any side of"
                return [f"Asked for the {name} {relation} the {other}; it is {is_now} the {other}."]
    return []


def _exclude_failure(clause: dict, found: list[Detection]) -> list[str]:
    if len(found) < clause["count"]:
        return []
    return [f"Asked for fewer than {_amount(clause)}; found {len(found)}."]


def _amount(clause: dict) -> str:
    count, name = clause["count"], clause["class"]
    return f"{article(name)} {name}" if count == 1 else f"{count} {plural(name)}"
