"""Which content ids a source has shown already: exact, and compact enough for millions of rows."""

from __future__ import annotations

from array import array

_EMPTY = 0  # in the slots, which hold entry numbers from 1
_FIRST_SLOTS = 1024  # a power of two, always


class FirstSeen:
    """Content ids and the index of the first row of each: a hash table in four flat arrays.

    Ids are hashes, so that their low bits serve as the slot: linear probing, at most two slots in three
    taken. An entry is 10 bytes of id and 4 of index, its slots 6 to 12 more; a `dict` of the same takes 200.
    """

    def __init__(self) -> None:
        self._high = array("Q")  # the first 16 hexadecimal digits of an id
        self._low = array("H")  # its last 4
        self._index = array("I")
        self._slots = array("I", (_EMPTY,)) * _FIRST_SLOTS

    def __len__(self) -> int:
        return len(self._index)

    @property
    def nbytes(self) -> int:
        """Bytes held, as allocated."""
        return sum(part.__sizeof__() for part in (self._high, self._low, self._index, self._slots))

    def setdefault(self, identity: str, index: int) -> int:
        """The index of the first row with this id; where there is none yet, this row is it.

        Args:
            identity: 20 hexadecimal digits (`schemas.records.problem_id`).
            index: the row's, from 0, below 2**32.
        Returns: the earlier row's index, or `index`.
        Raises: ValueError: another kind of id. OverflowError: an index beyond 32 bits.
        """
        if len(identity) != 20:
            raise ValueError(f"content id {identity!r}: need 20 hexadecimal digits, got {len(identity)}")
        high, low = int(identity[:16], 16), int(identity[16:], 16)
        slot = self._find(high, low)
        if self._slots[slot] != _EMPTY:
            return self._index[self._slots[slot] - 1]
        self._index.append(index)
        self._high.append(high)
        self._low.append(low)
        self._slots[slot] = len(self._index)
        if 3 * len(self._index) > 2 * len(self._slots):
            self._grow()
        return index

    def _find(self, high: int, low: int) -> int:
        """The slot where this id stands, or the empty one where it would."""
        mask = len(self._slots) - 1
        slot = high & mask
        while entry := self._slots[slot]:
            if self._high[entry - 1] == high and self._low[entry - 1] == low:
                break
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        """Twice the slots; the entries stay where they are."""
        self._slots = array("I", (_EMPTY,)) * (2 * len(self._slots))
        mask = len(self._slots) - 1
        for entry, high in enumerate(self._high, start=1):
            slot = high & mask
            while self._slots[slot] != _EMPTY:
                slot = (slot + 1) & mask
            self._slots[slot] = entry
