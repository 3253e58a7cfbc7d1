"""Importing this module first lets an interrupt end a script in one line even while it imports other packages.

That takes a second or more, in which Python would print a traceback, or ignore the interrupt in a callback. Nothing
happens unless the module that runs as a script imports it. `gdlab.compute.interrupts.command` takes over from here.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType


def end_at_once(*unused: object) -> None:
    """Print one line and end the process; the handler of interrupts until the command begins."""
    os.write(2, f"{Path(sys.argv[0]).stem}: interrupted\n".encode())
    os._exit(130)


end_at_once.until_a_command = True  # type: ignore[attr-defined]


def _importing(frame: FrameType | None) -> str:
    """Return the name of the module that imports this one, directly or as the command line."""
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if not name.startswith(("importlib", "gdlab.compute.script", "gdlab.cli")):
            return name
        frame = frame.f_back
    return ""


_own = threading.current_thread() is threading.main_thread()
_default = _own and signal.getsignal(signal.SIGINT) is signal.default_int_handler
if _default and _importing(sys._getframe()) == "__main__":
    signal.signal(signal.SIGINT, end_at_once)
