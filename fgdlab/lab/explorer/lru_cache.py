"""A cache bounded by bytes."""
from collections import OrderedDict
from collections.abc import Callable, Hashable


class LRUCache:
    """Evicts the least recently used entries beyond ``max_bytes``, but never the latest ``min_items``.

    ``min_items`` covers one view. With fewer entries every change of the view would compute everything again.
    """

    def __init__(self, max_bytes: int, min_items: int = 1):
        self.max_bytes, self.min_items = max_bytes, min_items
        self.bytes = 0
        self._entries: OrderedDict[Hashable, tuple[object, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def get(self, key: Hashable, compute: Callable[[], object], size: Callable = lambda value: value.nbytes):
        """The value of ``key``, computed if missing. ``size(value)`` returns its bytes."""
        if key not in self._entries:
            value = compute()
            self._entries[key] = value, size(value)
            self.bytes += self._entries[key][1]
        self._entries.move_to_end(key)
        while len(self) > self.min_items and self.bytes > self.max_bytes:
            _, (_, freed) = self._entries.popitem(last=False)
            self.bytes -= freed
        return self._entries[key][0]
