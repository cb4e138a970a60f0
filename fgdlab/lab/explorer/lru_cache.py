"""A memory with a bound."""
from collections import OrderedDict
from collections.abc import Callable, Hashable


class LRUCache:
    """Keeps what was made, the latest used last; forgets from the other end what exceeds ``bytes`` or ``items``.

    ``keep`` of the latest entries are never forgotten: what one picture needs must fit, or every move would compute it anew.
    """

    def __init__(self, bytes: int, items: int, keep: int = 1):
        self.bytes, self.items, self.keep = bytes, items, keep
        self.size = 0
        self._entries: OrderedDict[Hashable, tuple[object, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def get(self, key: Hashable, make: Callable[[], object], size: Callable[[object], int]):
        """The entry of this key, made if it is not there. ``size(value)`` gives its bytes."""
        if key not in self._entries:
            value = make()
            self._entries[key] = value, size(value)
            self.size += self._entries[key][1]
        self._entries.move_to_end(key)
        while len(self._entries) > self.keep and (self.size > self.bytes or len(self._entries) > self.items):
            _, (_, freed) = self._entries.popitem(last=False)
            self.size -= freed
        return self._entries[key][0]
