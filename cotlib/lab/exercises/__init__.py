"""The exercises of all notebooks. A new notebook adds a module with a tuple EXERCISES, and its number and module here."""

from cotlib.lab.exercises import (
    generation,
    kernels,
    measuring,
    orm,
    parm,
    preference,
    prm,
    published,
    reflection,
    together,
    tokens,
)

MODULES = {  # by notebook, in the order of the course
    "01": tokens, "02": generation, "03": measuring, "04": orm, "05": prm, "06": parm, "07": reflection,
    "08": preference, "09": together, "10": kernels, "11": published,
}  # fmt: skip
REGISTRY = {exercise.name: exercise for module in MODULES.values() for exercise in module.EXERCISES}
NOTEBOOK = {exercise.name: number for number, module in MODULES.items() for exercise in module.EXERCISES}
BY_NOTEBOOK = {  # the names of its exercises, for every notebook; the first one has none
    number: [name for name, where in NOTEBOOK.items() if where == number] for number in ("00", *MODULES)
}
