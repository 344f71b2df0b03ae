"""What the cards of verifiers say, all on development prompts: on clean drawings, and on the generator's own pictures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cotlib.interfaces import CLARITY, FINAL, POTENTIAL, REFLECT, STEP
from cotlib.train.verifier_captions import LESSONS, draw_captions
from cotlib.train.verifier_paths import Paths, load_paths, unpack_things
from cotlib.verifying.calibration import balanced_accuracy, report
from cotlib.verifying.reflection import LearnedVerifier
from cotlib.verifying.repair import find_faults

DRAWINGS = 440  # pictures with two captions each; as many for every lesson
STEPS_EACH = 2  # rounds asked about, per path, for CLARITY


def measure_drawings(verifier: LearnedVerifier, painter, seed: int = 40_000) -> dict:
    """FINAL (or STEP, without it) on fresh drawings: balanced accuracy, overall and by task and change of the caption."""
    rng = np.random.default_rng(seed)
    question = FINAL if FINAL in verifier.questions else STEP
    result, everything = {}, []
    for lesson, weights in zip(LESSONS, np.eye(len(LESSONS)), strict=True):
        captions = draw_captions(rng, DRAWINGS // len(LESSONS), weights, split="dev")
        images = painter.paint(captions.scenes, decoded=0.5)
        view = verifier.views(images).select(captions.owner)
        p = verifier.ask(question, [m["prompt"] for m in captions.metadatas], view).tolist()
        right = (captions.right > 0.5).tolist()
        everything += zip(p, right, strict=True)
        result["/".join(lesson)] = round(balanced_accuracy(p, right), 4)
    return {
        "balanced_accuracy": round(balanced_accuracy(*zip(*everything, strict=True)), 4),
        "by_lesson": result,
    }


def measure_paths(verifier: LearnedVerifier, tokenizer, folder: Path, split: str = "dev") -> dict:
    """`verifying.calibration.report` for every question that the verifier was trained for, on own pictures.

    FINAL and REFLECT: the last round; STEP: all states with rollouts; CLARITY: two random rounds a path, from the first
    one it is asked in; POTENTIAL: the first clear one of these.
    """
    paths = load_paths(folder, split)
    rng = np.random.default_rng(0)
    rounds, last = paths.codes.shape[1], paths.codes.shape[1] - 1
    rows = np.arange(len(paths.path))
    picked: dict[str, tuple[np.ndarray, np.ndarray, Callable]] = {
        FINAL: (rows, np.full(len(rows), last), lambda r, s: paths.correct[r]),
        STEP: (*np.nonzero(paths.rolled >= 0), lambda r, s: paths.rolled[r, s] > 0),
        CLARITY: (np.repeat(rows, STEPS_EACH), rng.integers(verifier.ask_from, rounds, size=STEPS_EACH * len(rows)),
                    lambda r, s: paths.clear[r, s]),
        POTENTIAL: (rows, verifier.ask_from + paths.clear[:, verifier.ask_from :].argmax(1), lambda r, s: paths.correct[r]),
    }  # fmt: skip
    result = {}
    for question, (row, step, truth) in picked.items():
        if question in verifier.questions and len(row):
            images = pictures(tokenizer, paths.codes[row, step])
            metadatas = [paths.metadata(r) for r in row]
            p = verifier.ask(question, [m["prompt"] for m in metadatas], images).tolist()
            result[question] = report(p, truth(row, step).tolist(), [m["tag"] for m in metadatas],
                                      [m["prompt"] for m in metadatas])  # fmt: skip
    if REFLECT in verifier.questions:
        result[REFLECT] = measure_words(verifier, tokenizer, paths)
    return result


def measure_words(verifier: LearnedVerifier, tokenizer, paths: Paths) -> dict:
    """Reflections on final pictures against the target words.

    accepted_right, accepted_wrong: shares of right and wrong pictures answered with "yes"; of the refusals of wrong
    pictures: the same faults as the target (in any order), at least one fault of the target, and with a flag.
    """
    metadatas = [paths.metadata(r) for r in range(len(paths.path))]
    images = pictures(tokenizer, paths.codes[:, -1])
    spoken = verifier.reflect([m["prompt"] for m in metadatas], images)
    targets = [find_faults(m, unpack_things(t)) for m, t in zip(metadatas, paths.things, strict=True)]
    accepted = np.array([r.accepted for r in spoken])
    refused = [(set(r.faults), set(t), bool(r.flags)) for r, t, right in zip(spoken, targets, paths.correct, strict=True)
               if not right and not r.accepted and t]  # fmt: skip
    shares = {
        "accepted_right": accepted[paths.correct].mean() if paths.correct.any() else 0.0,
        "accepted_wrong": accepted[~paths.correct].mean() if not paths.correct.all() else 0.0,
        "same_faults": np.mean([said == target for said, target, _ in refused] or [0.0]),
        "some_fault": np.mean([bool(said & target) for said, target, _ in refused] or [0.0]),
        "flagged": np.mean([flag for _, _, flag in refused] or [0.0]),
    }
    return {"pictures": len(spoken), "refused_wrong": len(refused)} | {
        k: round(float(v), 4) for k, v in shares.items()
    }


@torch.no_grad()
def pictures(tokenizer, codes: np.ndarray) -> Tensor:
    """Codes [B, N] to pictures [B, 3, 64, 64]."""
    parts = torch.from_numpy(codes.astype(np.int64)).split(64)
    return torch.cat([tokenizer.decode(part) for part in parts])
