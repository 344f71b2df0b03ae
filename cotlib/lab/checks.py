"""Check a learner's function against the library's own; find the mistake by its fingerprints.

    check("masked_count", masked_count)      # prints: right, not attempted yet, or a hint
    solution("masked_count")                 # prints the library's source

A hint is not guessed: every exercise lists typical wrong implementations. When the learner's function gives the same
outputs as one of them on all inputs, that one's hint is the right hint. `check` never raises, so Run All never
stops; the lesson goes on with the library's function.
"""

from __future__ import annotations

import inspect
import textwrap
import traceback
from dataclasses import dataclass

from cotlib.lab import clock, store
from cotlib.lab.compare import brief, difference, fresh, same
from cotlib.lab.exercises import REGISTRY
from cotlib.lab.exercises.registry import Exercise, Unfinished

PASSED, FAILED, NOT_ATTEMPTED = "passed", "failed", "not attempted"
OFFER_AFTER = 2  # failed attempts before the solution is offered


@dataclass(frozen=True)
class Result:
    """state: PASSED, FAILED or NOT_ATTEMPTED; message: for the learner; hint: name of the recognised mistake, or ""."""

    state: str
    message: str
    hint: str = ""


def check(name: str, fn) -> None:
    """Compare `fn` with the library's function on random inputs, print the verdict, keep it in the progress file."""
    if name not in REGISTRY:
        print(f"There is no exercise {name!r}; the exercises are {', '.join(sorted(REGISTRY))}.")
        return
    try:
        result = examine(REGISTRY[name], fn)
    except Exception as error:  # a fault of the check itself must not stop the lesson
        print(
            f"{name}: the check itself failed ({type(error).__name__}: {error}); please report this. Go on."
        )
        return
    attempts = _remember(name, result)
    print(f"{_sign(result.state)} {name}: {result.message}")
    if result.state == FAILED and attempts >= OFFER_AFTER:
        print(f'   {attempts} attempts so far. solution("{name}") prints the library\'s version.')


def solution(name: str) -> None:
    """Print the source of the library's function."""
    if name not in REGISTRY:
        print(f"There is no exercise {name!r}; the exercises are {', '.join(sorted(REGISTRY))}.")
        return
    function = REGISTRY[name].reference()
    print(
        f"# {function.__module__}.{function.__qualname__}\n\n{textwrap.dedent(inspect.getsource(function))}"
    )


def examine(exercise: Exercise, fn) -> Result:
    """Run the learner's function on all inputs of the exercise and judge it."""
    if fn is None or fn is Ellipsis or not callable(fn):
        return Result(NOT_ATTEMPTED, "not attempted yet. The lesson goes on with the library's function.")
    cases = exercise.inputs()
    wanted = [exercise.observe(exercise.reference(), *fresh(case)) for case in cases]
    got = []
    for case in cases:
        try:
            got.append(exercise.observe(fn, *fresh(case)))
        except NotImplementedError:
            return Result(NOT_ATTEMPTED, "not attempted yet. The lesson goes on with the library's function.")
        except Unfinished:
            return Result(NOT_ATTEMPTED, "not attempted yet: it returns nothing. Go on.")
        except Exception as error:
            return Result(FAILED, _crash(case, error))
    if all(same(a, b, exercise.tolerance) for a, b in zip(got, wanted, strict=True)):
        return Result(PASSED, f"right on all {len(cases)} inputs.")
    for mistake in exercise.mistakes:
        if _matches(exercise, mistake.fn, cases, got):
            return Result(FAILED, f"not yet. {mistake.hint}", mistake.name)
    return Result(FAILED, _first_difference(exercise, cases, got, wanted))


def _matches(exercise: Exercise, wrong, cases, got) -> bool:
    """Do the learner's outputs equal those of a known wrong implementation on every input?"""
    try:
        theirs = [exercise.observe(wrong, *fresh(case)) for case in cases]
    except Exception:
        return False
    return all(same(a, b, exercise.tolerance) for a, b in zip(got, theirs, strict=True))


def _first_difference(exercise: Exercise, cases, got, wanted) -> str:
    wrong = [
        i for i, (a, b) in enumerate(zip(got, wanted, strict=True)) if not same(a, b, exercise.tolerance)
    ]
    i = wrong[0]
    return (
        f"not yet: {len(wrong)} of {len(cases)} inputs differ ({difference(got[i], wanted[i])}). The first of them:"
        f"\n   input:     {brief(cases[i])}\n   yours:     {brief(got[i])}\n   expected:  {brief(wanted[i])}"
    )


def _crash(case, error: Exception) -> str:
    """The learner's own exception, with the line of their function in which it arose."""
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if "cotlib" not in f.filename.replace("\\", "/")
    ]
    own = [f for f in frames if "ipykernel" in f.filename or f.filename.startswith("<")] or frames
    where = f" at the line `{own[-1].line}`" if own and own[-1].line else ""
    return f"it stops with {type(error).__name__}: {error}{where}.\n   input:     {brief(case)}"


def _remember(name: str, result: Result) -> int:
    """Add the attempt and its minutes to the progress file; returns the number of failed or passed attempts."""
    old = {"state": NOT_ATTEMPTED, "attempts": 0, "hint": "", "minutes": 0.0} | store.get("checks", name)
    new = dict(old)
    if old["state"] != PASSED:
        new["minutes"] = round(old["minutes"] + clock.of_this_cell(), 3)
    if result.state != NOT_ATTEMPTED:
        state = PASSED if PASSED in (result.state, old["state"]) else FAILED
        new |= {"state": state, "attempts": old["attempts"] + 1, "hint": result.hint}
    store.put("checks", name, new)
    return new["attempts"]


def _sign(state: str) -> str:
    return {PASSED: "✓", FAILED: "✗", NOT_ATTEMPTED: "○"}[state]
