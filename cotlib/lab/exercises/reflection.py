"""Exercises of notebook 07, reflection: from words to a decision, and the stop rule."""

from __future__ import annotations

from collections.abc import Callable

from cotlib.interfaces import Detection
from cotlib.lab.exercises.registry import Exercise, Mistake, call
from cotlib.verifying.faults import parse_words
from cotlib.world.prompts import parse_prompt

# --- understand: from the words of a reflection to a decision


def _spoken() -> list[tuple]:
    """(words, metadata, seen): readable and unreadable words, faults that somebody and that nobody asked for."""
    dog_cat, cups, place = (
        parse_prompt(f"a photo of {text}")
        for text in ("a dog and a cat", "three cups", "a cup left of a clock")
    )
    cases = (
        ("yes", dog_cat, "dog cat"),
        ("missing cat", dog_cat, "dog"),
        ("wrong bird should cat", dog_cat, "dog bird"),
        ("extra one bird", dog_cat, "dog cat bird"),
        ("missing bus", dog_cat, "dog"),
        ("missing bus missing cat", dog_cat, "dog"),
        ("missing cat missing bus", dog_cat, "bird"),
        ("wrong bus should cat", dog_cat, "dog"),
        ("wrong bird should bus", dog_cat, "dog bird"),
        ("missing cat dog should", dog_cat, "dog"),
        ("missing cat yes", dog_cat, "dog"),
        ("dog should", dog_cat, "dog"),
        ("yes yes", dog_cat, "dog cat"),
        ("", dog_cat, "dog"),
        ("missing two cup", cups, "cup"),
        ("extra one cup", cups, "cup cup cup cup"),
        ("wrong book should cup missing cup", cups, "cup book"),
        ("move cup left of clock", place, "cup clock"),
        ("missing clock missing cup", place, ""),
        ("extra one train", place, "cup clock"),
        ("yes", place, "cup"),
    )
    return [(tuple(words.split()), metadata, [_seen(cls, i) for i, cls in enumerate(there.split())])
            for words, metadata, there in cases]  # fmt: skip


def _seen(cls: str, place: int) -> Detection:
    x, y = 32.0 * (place % 2), 32.0 * (place // 2)
    return Detection(cls, (x, y, x + 24.0, y + 24.0), 0.9, "blue")


def _decision(fn: Callable, words, metadata, seen):
    """(accepted, faults), whether the function returns these two or a whole `Reflection`."""
    told = call(fn, words, metadata, seen)
    accepted, faults = (told.accepted, told.faults) if hasattr(told, "faults") else told
    return bool(accepted), tuple(faults)


def _understood(words, metadata, seen, there="either", goals=True, go_on=True, whole=False):
    """(accepted, faults): the rule, or one with a part of it changed."""
    faults, rest = parse_words(words)
    wanted = {clause["class"] for clause in metadata["include"]}
    known = {"either": wanted | {d.cls for d in seen}, "wanted": wanted, "seen": {d.cls for d in seen}, "any": None}[there]  # fmt: skip
    kept = []
    for fault in faults:
        goal = fault.to_cls or fault.cls
        good = (known is None or fault.cls in known) and (
            not goals or fault.kind == "extra" or goal in wanted
        )
        if good:
            kept.append(fault)
        elif not go_on:
            break
    return words == ("yes",), () if whole and rest else tuple(kept)


UNDERSTAND = Exercise(
    name="understand",
    where="cotlib.verifying.reflection:understand",
    inputs=_spoken,
    observe=_decision,
    mistakes=(
        Mistake(
            "silence accepts",
            "You accept when no fault can be read. Words that make no sense are no yes: it is a refusal without a reason.",
            lambda w, m, s: (not parse_words(w)[0], _understood(w, m, s)[1]),
        ),
        Mistake(
            "dropped accepts",
            "You accept when no fault is left. A refusal whose faults were all dropped stays a refusal, a plain no.",
            lambda w, m, s: (not _understood(w, m, s)[1], _understood(w, m, s)[1]),
        ),
        Mistake(
            "yes anywhere",
            'You accept as soon as "yes" is among the words. Only the single word "yes" accepts.',
            lambda w, m, s: ("yes" in w, _understood(w, m, s)[1]),
        ),
        Mistake(
            "yes at the front",
            'You look at the first word only. "yes yes" is no sentence of this language; only the single word "yes" accepts.',
            lambda w, m, s: (w[:1] == ("yes",), _understood(w, m, s)[1]),
        ),
        Mistake(
            "all or nothing",
            "You throw everything away when the end cannot be read. The faults before it are whole: keep them.",
            lambda w, m, s: _understood(w, m, s, whole=True),
        ),
        Mistake(
            "nothing dropped",
            "You keep every fault. Drop those about things neither seen nor asked for, and those that want what nobody "
            "asked for.",
            lambda w, m, s: _understood(w, m, s, there="any", goals=False),
        ),
        Mistake(
            "goal not checked",
            'You look at the thing, not at the wish. "missing bird" makes no sense when nobody asked for a bird, even if one was '
            "seen; the goal of a fault must be in the prompt.",
            lambda w, m, s: _understood(w, m, s, goals=False),
        ),
        Mistake(
            "thing not checked",
            'You look at the wish, not at the thing. "wrong bus should cat" needs a bus: one that was seen or asked for.',
            lambda w, m, s: _understood(w, m, s, there="any"),
        ),
        Mistake(
            "only what is asked for",
            "You drop faults about things that the prompt does not name. A bird that was seen may be wrong, or one too many.",
            lambda w, m, s: _understood(w, m, s, there="wanted"),
        ),
        Mistake(
            "only what is seen",
            "You drop faults about things that were not seen. But that is what missing means: asked for is enough.",
            lambda w, m, s: _understood(w, m, s, there="seen"),
        ),
        Mistake(
            "stops at the first bad one",
            "You stop at the first fault that makes no sense. Drop that one and go on: the next may be right.",
            lambda w, m, s: _understood(w, m, s, go_on=False),
        ),
    ),
)


# --- until_accepted: the stop rule


def until_accepted(picture, reflect: Callable, correct: Callable, rounds: int = 3):
    """The picture handed over: the first that is accepted, or the last one after `rounds` corrections.

    reflect(picture) gives (accepted, P(yes), words); correct(picture, words) another picture. After the last
    correction nobody is asked. `cotlib.search.correct_chosen` is this loop for many prompts at once.
    """
    for _ in range(rounds):
        accepted, _, words = reflect(picture)
        if accepted:
            break
        picture = correct(picture, words)
    return picture


def _scripts() -> list[tuple]:
    """(what is said of picture 0, 1, 2, ... as (accepted, P(yes), words), rounds)."""
    no = [(False, p, f"words {i}") for i, p in enumerate((0.4, 0.1, 0.45, 0.2, 0.3, 0.05))]
    scripts = [([*no[:k], (True, 0.6, "yes"), *no[k + 1 :]], 3) for k in range(5)]
    scripts += [(no, rounds) for rounds in (0, 1, 2, 3)]
    early, late = (True, 0.55, "yes"), (True, 0.95, "yes")
    return [*scripts, ([no[0], early, late, late, late, late], 3), ([no[1], no[0], *no[2:]], 3)]


def _history(fn: Callable, said, rounds):
    """(picture handed over, the pictures asked about, what was corrected with which words); pictures are numbers."""
    asked, corrected = [], []

    def reflect(picture):
        asked.append(picture)
        return said[min(picture, len(said) - 1)]

    def correct(picture, words):
        corrected.append((picture, words))
        return len(corrected)

    return call(fn, 0, reflect, correct, rounds), tuple(asked), tuple(corrected)


def _loop(
    picture,
    reflect,
    correct,
    rounds,
    heed=True,
    more=0,
    give="last",
    first=False,
    ask_last=False,
    stale=False,
):
    """The stop rule with a part of it changed."""
    start, seen, old = picture, [], None
    for _ in range(rounds + more):
        accepted, p, words = reflect(picture)
        old = old or words
        seen.append((p, picture, accepted))
        if accepted and heed:
            break
        picture = correct(start if first else picture, old if stale else words)
    else:
        if ask_last or give == "best":
            accepted, p, _ = reflect(picture)
            seen.append((p, picture, accepted))
        if give == "start":
            return start
    return max(seen)[1] if give == "best" and seen else picture


UNTIL_ACCEPTED = Exercise(
    name="until_accepted",
    where="cotlib.lab.exercises.reflection:until_accepted",
    inputs=_scripts,
    observe=_history,
    mistakes=(
        Mistake(
            "corrects accepted ones",
            "You go on after an accepted picture. Corrections can break what is right: the first accepted picture wins.",
            lambda p, r, c, n: _loop(p, r, c, n, heed=False),
        ),
        Mistake(
            "best score of all rounds",
            "You run all rounds and hand over the highest P(yes). The first accepted picture wins; more rounds are more "
            "chances for the verifier to be fooled, and they cost.",
            lambda p, r, c, n: _loop(p, r, c, n, heed=False, give="best"),
        ),
        Mistake(
            "best score where none is accepted",
            "Where none is accepted you hand over the highest P(yes). The rule hands over the last picture, and does not "
            "ask about it any more.",
            lambda p, r, c, n: _loop(p, r, c, n, give="best"),
        ),
        Mistake(
            "one round too many",
            "You correct once more than `rounds` allows: with 3 rounds at most 3 corrections.",
            lambda p, r, c, n: _loop(p, r, c, n, more=1),
        ),
        Mistake(
            "one round too few",
            "You correct once less than `rounds` allows: with 3 rounds a picture may be corrected 3 times.",
            lambda p, r, c, n: _loop(p, r, c, n, more=-1),
        ),
        Mistake(
            "back to the first",
            "Where none is accepted you hand over the picture you began with. The rule hands over the last one.",
            lambda p, r, c, n: _loop(p, r, c, n, give="start"),
        ),
        Mistake(
            "asks after the last round",
            "You ask about the last picture although nothing can follow. It changes no picture, but it is paid for.",
            lambda p, r, c, n: _loop(p, r, c, n, ask_last=True),
        ),
        Mistake(
            "always from the first picture",
            "You correct the first picture again and again. Each round goes on from the picture of the round before.",
            lambda p, r, c, n: _loop(p, r, c, n, first=True),
        ),
        Mistake(
            "old words",
            "You correct with the first reflection's words in every round. Each picture has words of its own.",
            lambda p, r, c, n: _loop(p, r, c, n, stale=True),
        ),
    ),
)

EXERCISES = (UNDERSTAND, UNTIL_ACCEPTED)
