"""The exercises of all notebooks, by name. A new notebook adds a module with a tuple EXERCISES and its name here."""

from cotlib.lab.exercises import (
    generation,
    measuring,
    orm,
    parm,
    preference,
    prm,
    reflection,
    together,
    tokens,
)

REGISTRY = {
    exercise.name: exercise
    for module in (tokens, generation, measuring, orm, reflection, parm, prm, preference, together)
    for exercise in module.EXERCISES
}
