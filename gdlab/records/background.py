"""Writing in the background: the next epoch begins while the files of the last one are written."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Writer:
    """Writes in a thread of its own, one write after another.

    An error of a write is raised by the next call of `wait` or `start`. As a context manager, a writer ends with its
    last write, even after an error or an interrupt, and raises that write's error if the block raised none.
    """

    def __init__(self) -> None:
        """Create a writer, whose thread starts with the first write."""
        self._pool = ThreadPoolExecutor(1, "gdlab-writer")
        self._last: Future[None] | None = None

    def wait(self) -> None:
        """Wait for the write that was started last; raise its error."""
        if self._last is not None:
            self._last.result()
            self._last = None

    def start(self, write: Callable[[], None]) -> None:
        """Wait for the write before it, then call `write` in the background."""
        self.wait()
        self._last = self._pool.submit(write)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: object, *unused: object) -> None:
        try:
            self._pool.shutdown()
        finally:  # a second interrupt must not leave a thread behind that writes
            self._pool.shutdown()
        if kind is None:
            self.wait()
