"""Somebody who does the same over and over while something else is measured."""

import threading
from typing import Self


class Background:
    """A thread between `with` and its end. An error ends it, and is raised at that end."""

    def __init__(self, pause_s: float = 0.0) -> None:
        """Seconds before each time."""
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def once(self) -> None:
        """What is done."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._pause_s):
                self.once()
        except BaseException as exc:
            self._error = exc
