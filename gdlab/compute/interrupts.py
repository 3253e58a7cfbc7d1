"""Ctrl-C: an interrupt is never lost, long calls end at their next safe place, and a command ends within two seconds.

Python raises KeyboardInterrupt in whatever function the main thread is in. In a callback of the garbage collector,
which JAX has, or in a `__del__`, the exception is printed and ignored. So the handler of `heeded` also remembers the
interrupt, and long calls look for it at their safe places with `check`.
"""

import atexit
import contextlib
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

GRACE = 0.8
"""The seconds that a command has to end by itself after an interrupt."""

PENDING = threading.Event()
"""Set from an interrupt until the long call has ended; every thread may look at it."""

BEFORE_A_HARD_EXIT: list[Callable[[], None]] = []
"""Functions that are called before a process that was interrupted ends at once."""

_said = threading.Lock()
_heeding = False


def check() -> None:
    """Raise KeyboardInterrupt if there was an interrupt that the running call has not yet heeded."""
    if PENDING.is_set():
        raise KeyboardInterrupt


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """Make sure that an interrupt during the block ends it with KeyboardInterrupt; also serves as a decorator.

    Threads of the block end at their next `check`. A handler of the caller's own is left alone.
    """
    global _heeding
    if _heeding or threading.current_thread() is not threading.main_thread():
        yield
        return
    default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    PENDING.clear()
    try:
        _heeding = True
        if default:
            signal.signal(signal.SIGINT, _remember)
        yield
        check()
    finally:
        if default:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        _heeding = False
        PENDING.clear()


def _remember(_: int, frame: FrameType | None) -> None:
    PENDING.set()
    ignoring = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    while frame is not None:
        if frame.f_code in ignoring or frame.f_code.co_name == "__del__":
            return  # an exception would be printed and ignored here
        frame = frame.f_back
    raise KeyboardInterrupt


@contextlib.contextmanager
def command(name: str, *expected: type[Exception]) -> Iterator[None]:
    """Run a block as a command: an interrupt ends the process within two seconds, with one line and status 130.

    The main thread may be inside a compiled program, where Python's handlers do not run. So a thread waits for the
    signal as well. It ends the process if the block has not done so in time; that loses nothing, because files appear
    as a whole or not at all.

    Args:
      name: the name of the command, which begins the line.
      *expected: errors of these types end the process with one line and status 1.
    """
    if getattr(signal.getsignal(signal.SIGINT), "until_a_command", False):  # that of gdlab.compute.script
        signal.signal(signal.SIGINT, signal.default_int_handler)
    receive, send = os.pipe()
    os.set_blocking(send, False)
    before = signal.set_wakeup_fd(send, warn_on_full_buffer=False)
    ended = threading.Event()
    threading.Thread(target=_watch, args=(receive, name, ended), daemon=True).start()
    try:
        with heeded():
            yield
    except KeyboardInterrupt:
        _say(name)
        atexit.register(os._exit, 130)  # before the end of JAX, which waits for programs that are running
        sys.exit(130)
    except expected as error:
        sys.exit(f"{name}: {error}")
    finally:
        ended.set()
        signal.set_wakeup_fd(before)
        os.close(send)


def _watch(receive: int, name: str, ended: threading.Event) -> None:
    with open(receive, "rb", buffering=0) as pipe:
        while (signals := pipe.read(64)) and signal.SIGINT not in signals:
            pass
    if not signals:  # the command has ended without an interrupt
        return
    if not ended.wait(GRACE):
        for clean in BEFORE_A_HARD_EXIT:
            with contextlib.suppress(Exception):
                clean()
        _say(name)
        os._exit(130)
    for _ in range(50):  # the interpreter may be waiting for threads that compile
        time.sleep(0.02)
        if not threading.main_thread().is_alive():
            os._exit(130)


def _say(name: str) -> None:
    if _said.acquire(blocking=False):
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        with contextlib.suppress(OSError, ValueError):
            print(f"{name}: interrupted", file=sys.stderr, flush=True)
