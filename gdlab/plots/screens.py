"""Where VisPy draws: in a window if there is a display, or else off-screen, through EGL or OSMesa.

VisPy loads one OpenGL library for the whole process when it is imported, so `blank_canvas` sets what it needs before.
"""

import contextlib
import ctypes.util
import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from gdlab.arguments import first_line

WINDOW = "glfw"
"""VisPy's name of what opens a window; it comes with the extra `vispy`."""

SIZE = (960, 720)
"""The width and the height of a window and of a picture."""

REMEDY = "Debian's packages libegl1, libgl1, libgl1-mesa-dri and libfontconfig1 draw without a display"
NOTHING = f"backend: expected a display, EGL or OSMesa for VisPy to draw with, got none that works; {REMEDY}"

FINER = 2
"""Off-screen there are so many pixels along each side for one of the picture, which averages them for smooth edges."""


def has_display() -> bool:
    """Return whether a window can be opened, as far as the environment says."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def import_vispy() -> ModuleType:
    """Import `vispy.scene`, with an OpenGL library that can draw here.

    Raises:
      ImportError: if VisPy is not installed.
      OSError: if a library is missing that it draws with.
    """
    if importlib.util.find_spec("vispy") is None:
        raise ImportError("backend: expected the package vispy, got none installed; run pip install 'gdlab[vispy]'")
    if "vispy" not in sys.modules and sys.platform == "linux":
        _choose_library()
    try:
        return importlib.import_module("vispy.scene")
    except (ImportError, OSError) as error:
        raise OSError(f"backend: expected VisPy to load, got {first_line(error)}; {REMEDY}") from None


def _choose_library() -> None:
    """Let VisPy load OSMesa, which is a whole OpenGL library, if there is no other that draws here."""
    found = ctypes.util.find_library
    if "VISPY_GL_LIB" in os.environ or (found("GL") and (has_display() or found("EGL"))):
        return
    osmesa = found("OSMesa")
    if osmesa is None:
        raise OSError(NOTHING)
    os.environ["VISPY_GL_LIB"] = osmesa


def blank_canvas(title: str, keys: Mapping[str, Any]) -> tuple[Any, bool]:
    """Return an empty white canvas of VisPy, and whether it is one that can be shown in a window.

    Args:
      title: the title of the window.
      keys: what each key does.

    Raises:
      ImportError: if VisPy is not installed.
      OSError: if there is neither a display nor a library that draws off-screen.
    """
    scene = import_vispy()
    application = importlib.import_module("vispy.app").Application
    common = {"title": title, "keys": dict(keys), "bgcolor": "white", "show": False}
    window = {"size": SIZE, "dpi": 96, "config": {"samples": 4}}
    picture = {"size": (FINER * SIZE[0], FINER * SIZE[1]), "dpi": FINER * 96}
    software = "osmesa" in os.environ.get("VISPY_GL_LIB", "").lower()
    names = ("osmesa",) if software else (*((WINDOW,) if has_display() else ()), "egl")
    for name in names:
        if name == "egl":
            _prepare_egl()
        windowed = name == WINDOW
        with contextlib.suppress(Exception):  # each toolkit says in its own way that it is not there or does not work
            return scene.SceneCanvas(app=application(name), **common, **(window if windowed else picture)), windowed
    raise OSError(NOTHING)


def _prepare_egl() -> None:
    """Load VisPy's module for EGL; Mesa's default is a display server, and without one must be asked not to use it."""
    with contextlib.suppress(Exception):
        module = importlib.import_module("vispy.app.backends._egl")
        if not module.available and "EGL_PLATFORM" not in os.environ:
            os.environ["EGL_PLATFORM"] = "surfaceless"
            try:
                importlib.reload(module)
            finally:
                del os.environ["EGL_PLATFORM"]
