"""A function from a user's own file, given as FILE.py:NAME."""

import importlib.util
import sys
import traceback
from pathlib import Path
from typing import Any


def load_factory(target: str) -> Any:
    """Run FILE.py and return its NAME.

    The file's own folder can be imported from, as when Python runs the file.

    Raises:
      ValueError: the target does not read FILE.py:NAME, the file has no such function, or its code raises.
      FileNotFoundError: there is no such file.
    """
    file, colon, name = target.rpartition(":")
    if not colon or not file.endswith(".py") or not name.isidentifier():
        raise ValueError(f"target: expected FILE.py:FACTORY, got {target!r}")
    path = Path(file).expanduser().resolve()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"target: expected a file, got {file}, which {what}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the user's code raises, sys.exit among it
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
        line = frames[-1].lineno if frames else getattr(error, "lineno", None)
        place = file if line is None else f"{file}:{line}"
        raise ValueError(f"{place}: {type(error).__name__}: {str(error).partition(chr(10))[0]}") from error
    if not callable(found := getattr(module, name, None)):
        named = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        raise ValueError(f"target: expected a function of {file} ({', '.join(named) or 'it has none'}), got {name}")
    return found
