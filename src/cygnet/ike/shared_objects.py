"""Numbers for objects that many packed records have in common: settings, algorithms."""


class SharedObjects:
    """Knows an object for as long as a record refers to it: a configuration that was replaced goes with its last SA."""

    __slots__ = ("_counts", "_free", "_numbers", "_objects")

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        """By identity: equal objects need not be cheap to compare, and these are few."""
        self._objects: list[object] = []
        self._counts: list[int] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        """How many objects are referred to."""
        return len(self._numbers)

    def refer(self, shared: object) -> int:
        """The number that stands for an object; one more record has it."""
        number = self._numbers.get(id(shared))
        if number is None:
            if self._free:
                number = self._free.pop()
                self._objects[number], self._counts[number] = shared, 0
            else:
                number = len(self._objects)
                self._objects.append(shared)
                self._counts.append(0)
            self._numbers[id(shared)] = number
        self._counts[number] += 1
        return number

    def look(self, number: int) -> object:
        """The object of that number."""
        return self._objects[number]

    def release(self, number: int) -> object:
        """The object of that number, which one record less has from now on."""
        shared = self._objects[number]
        self._counts[number] -= 1
        if not self._counts[number]:
            self._objects[number] = None
            del self._numbers[id(shared)]
            self._free.append(number)
        return shared
