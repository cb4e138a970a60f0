"""A cache bounded by bytes."""
from collections import OrderedDict
from collections.abc import Callable, Hashable


class LRUCache:
    """Evicts the least recently used entries beyond ``max_bytes``, but never the latest ``min_items`` of one view."""

    def __init__(self, max_bytes: int, min_items: int = 1):
        self.max_bytes, self.min_items, self.bytes = max_bytes, min_items, 0
        self.entries: OrderedDict[Hashable, tuple[object, int]] = OrderedDict()

    def get(self, key: Hashable, compute: Callable[[], object], size: Callable = lambda value: value.nbytes):
        """The value of ``key``, computed if missing."""
        if key not in self.entries:
            value = compute()
            self.entries[key] = value, size(value)
            self.bytes += self.entries[key][1]
        self.entries.move_to_end(key)
        while len(self.entries) > self.min_items and self.bytes > self.max_bytes:
            self.bytes -= self.entries.popitem(last=False)[1][1]
        return self.entries[key][0]
