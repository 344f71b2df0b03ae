"""The questions of the paper, what each one means here, and when it is asked (arXiv 2501.13926, sections 3 and 4).

A verifier answers only what it was trained for (`config.questions`). One substitution is part of the paper: the
zero-shot process verifier has never seen an unfinished picture, so at every step it is asked the *final* question
about the decode of the full current guess. `step_question` makes that choice in one place.
"""

from cotlib.errors import UserError
from cotlib.interfaces import CLARITY, FINAL, POTENTIAL, REFLECT, STEP

MEANING = {
    FINAL: "Is this finished picture what the prompt asks for?",
    STEP: "Can this unfinished picture still end well: is any of four continuations right?",
    CLARITY: "Is this unfinished picture clear enough to judge: are its things already those of the finished one?",
    POTENTIAL: "Will this path, now that its picture is clear, end in a picture that the prompt asks for?",
    REFLECT: "What is wrong with this finished picture, in words?",
}


def step_question(verifier) -> str:
    """The question to ask at each step: STEP when it was trained, else FINAL (the zero-shot process verifier)."""
    asked = [q for q in (STEP, FINAL) if q in verifier.questions]
    if not asked:
        known = ", ".join(verifier.questions) or "none"
        raise UserError(
            f"this verifier answers {known}; a process verifier needs STEP or FINAL; load another one"
        )
    return asked[0]
