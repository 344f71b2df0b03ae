"""The recipes around verifiers, corrections and preferences by their names on the command line.

verifier-zs          the zero-shot verifier, from clean drawings
verifier-paths       data: the generator's own paths with verdicts (a folder for --data, not a checkpoint)
verifier-orm         tuned on finished pictures
verifier-prm         tuned on states with rollouts
verifier-parm        tuned on all three questions of PARM
verifier-parm-plus   goes on from verifier-parm and learns to say what is wrong
verifier-thresholds  chooses the thresholds of a PARM verifier and writes them into its folder
corrector            the generator tuned to correct a failed picture
dpo-pictures         data: pictures of training prompts with verdicts (a folder for --data, not a checkpoint)
dpo, dpo-iter, dpo-guided-orm, dpo-guided-parm
                     the generator tuned on judged preferences

The published models, on the user's own files (`cotlib.train.published`; --images, --lora and --set as well):

llava-orm, llava-parm
                     LLaVA-OneVision tuned to answer yes or no
showo-dpo            Show-o tuned on pairs of pictures
"""

from functools import partial

from cotlib.train import corrector, dpo, verifier, verifier_paths, verifier_thresholds, verifier_tuned
from cotlib.train.published import llava, showo

OWN_FILES = ("start", "data", "images", "lora", "settings")  # what a recipe for a published model takes

# Name -> run(out, seed=, minutes=, resume=, ...); TAKES says which of `start` (--init), `data`, `images`, `lora` and `settings`
# (--set) it takes as well.
STAGES = {
    "verifier-zs": verifier.run,
    "verifier-paths": verifier_paths.run,
    **{f"verifier-{name}": partial(verifier_tuned.run, stage=name) for name in verifier_tuned.STAGES},
    "verifier-thresholds": verifier_thresholds.run,
    "corrector": corrector.run,
    "dpo-pictures": dpo.run_pictures,
    **{name: partial(dpo.run, stage=name) for name in dpo.STAGES},
    "llava-orm": partial(llava.run, stage="llava-orm"),
    "llava-parm": partial(llava.run, stage="llava-parm"),
    "showo-dpo": showo.run,
}
TAKES = {
    "verifier-zs": ("data",),
    "verifier-paths": ("start",),
    **{f"verifier-{name}": ("start", "data") for name in verifier_tuned.STAGES},
    "verifier-thresholds": (),
    "corrector": ("start", "data"),
    "dpo-pictures": ("start",),
    **{name: ("start", "data") for name in dpo.STAGES},
    **dict.fromkeys(("llava-orm", "llava-parm", "showo-dpo"), OWN_FILES),
}
