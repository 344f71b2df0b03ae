"""What an exercise is: the library's function, inputs, a way to look at the result, and the mistakes people make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


class Unfinished(Exception):
    """The learner's function returned nothing: None or an ellipsis."""


@dataclass(frozen=True)
class Mistake:
    """A typical wrong implementation and the hint for whoever wrote it."""

    name: str
    hint: str
    fn: Callable


def call(fn: Callable, *args) -> Any:
    """The plain way to observe a function: its return value. Raises Unfinished when it returns nothing."""
    value = fn(*args)
    if value is None or value is Ellipsis or value is NotImplemented:
        raise Unfinished
    return value


@dataclass(frozen=True)
class Exercise:
    """An exercise that re-implements a function of the library.

    name       what the learner passes to `check`
    where      "module:function" of the library's version, imported only when the check runs
    inputs     () -> list of argument tuples, the same at every call
    mistakes   known wrong implementations, most specific first
    observe    (fn, *args) -> what is compared; by default the return value
    tolerance  largest difference of two numbers that counts as equal
    """

    name: str
    where: str
    inputs: Callable[[], list[tuple]]
    mistakes: tuple[Mistake, ...]
    observe: Callable = call
    tolerance: float = 1e-5

    def reference(self) -> Callable:
        """The library's function."""
        module, _, function = self.where.partition(":")
        return getattr(import_module(module), function)
