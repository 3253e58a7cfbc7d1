"""Where VisPy draws: in a window if there is a display, or else off-screen, through EGL or OSMesa.

VisPy loads one OpenGL library for the whole process when it is imported, so `blank_canvas` sets what it needs before.
"""

import contextlib
import ctypes.util
import importlib
import os
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

WINDOW = "glfw"
"""VisPy's name of what opens a window; it comes with the extra `vispy`."""

OFF_SCREEN = ("egl", "osmesa")

SIZE = (960, 720)
"""The width and the height of a window and of a picture."""

FINER = 2
"""Off-screen there are so many pixels along each side for one of the picture, which averages them for smooth edges."""


def has_display() -> bool:
    """Return whether a window can be opened, as far as the environment says."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def import_vispy() -> ModuleType:
    """Import `vispy.scene`, with the OpenGL library of OSMesa if there is neither a display nor EGL.

    Raises:
      ImportError: if VisPy is not installed.
    """
    found = ctypes.util.find_library
    if "vispy" not in sys.modules and not has_display() and not found("EGL") and (osmesa := found("OSMesa")):
        os.environ.setdefault("VISPY_GL_LIB", osmesa)
    try:
        return importlib.import_module("vispy.scene")
    except ImportError:
        raise ImportError(
            "backend: expected the package vispy, got none installed; run pip install 'gdlab[vispy]'"
        ) from None


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
    window = {"size": SIZE, "config": {"samples": 4}}
    picture = {"size": (FINER * SIZE[0], FINER * SIZE[1]), "dpi": FINER * 96}
    software = "osmesa" in os.environ.get("VISPY_GL_LIB", "").lower()
    names = ("osmesa",) if software else ((WINDOW,) if has_display() else ()) + OFF_SCREEN
    for name in names:
        if name == "egl":
            _prepare_egl()
        windowed = name == WINDOW
        with contextlib.suppress(Exception):  # each toolkit says in its own way that it is not there or does not work
            return scene.SceneCanvas(app=application(name), **common, **(window if windowed else picture)), windowed
    raise OSError(
        "backend: expected a display, EGL or OSMesa for VisPy to draw with, got none that works; "
        "plotly needs none, and Debian's packages libegl1 and libgl1-mesa-dri draw without a display"
    )


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
