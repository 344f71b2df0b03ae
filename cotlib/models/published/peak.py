"""How much memory a piece of work really took: the most bytes that its tensors held at one time.

    with Peak(model) as peak:
        model.logits(prefix, codes, rows)
    peak.bytes

Counted is every tensor's storage from the operation that made it to the moment when nothing refers to it any more, on
any device, also on "meta", where nothing is computed. Not counted is what an operation takes and gives back inside
itself (the work space of a convolution), what the allocator holds in reserve, and the program. On a GPU
`torch.cuda.max_memory_allocated` counts the same storages and the work space too.
"""

import weakref
from collections.abc import Iterator

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Peak(TorchDispatchMode):
    """Inside `with`, follows all storages; held: modules and tensors that are there before. bytes: the most so far."""

    def __init__(self, *held: nn.Module | Tensor):
        super().__init__()
        self.now = self.bytes = 0
        self._alive: set[int] = set()
        for tensor in _tensors(held):
            self._meet(tensor)
        self.before = self.now

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs, result)):
            if isinstance(tensor, Tensor):
                self._meet(tensor)
        return result

    def _meet(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return
        self._alive.add(key)
        weakref.finalize(storage, self._part, key, size).atexit = False
        self.now += size
        self.bytes = max(self.bytes, self.now)

    def _part(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size


def _tensors(held: tuple[nn.Module | Tensor, ...]) -> Iterator[Tensor]:
    for thing in held:
        yield from (thing,) if isinstance(thing, Tensor) else (*thing.parameters(), *thing.buffers())
