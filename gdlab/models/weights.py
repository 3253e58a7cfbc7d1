"""Files of weights, of PyTorch and of safetensors, as arrays by name; no code in a file is run."""

import contextlib
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from gdlab.arguments import first_line

PYTORCH = (".pth", ".pt", ".ckpt", ".bin", ".tar")
NESTED = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
"""Entries of a training checkpoint that may hold the state dict, in the order in which they are tried."""

_STARTS = {
    b"<": "a web page",
    b"{": "text",
    b"version https://git-lfs": "a pointer of Git LFS, not the file it stands for",
}


def read_weights(path: Path) -> dict[str, Any]:
    """Return the arrays of a file by name, as tensors of PyTorch or arrays of NumPy.

    A state dict may lie in an entry of a training checkpoint (NESTED), and its names may have a common prefix, such as
    the "module." of `torch.nn.DataParallel`, which is removed.
    """
    if path.suffix != ".safetensors" and path.suffix not in PYTORCH:
        raise ValueError(f"path: expected a .pth or .safetensors file, got {path.name}")
    with _one_line(path.name, "a file of weights"), path.open("rb") as file:
        start = file.read(64)
    if not start.strip():
        raise ValueError(f"{path.name}: expected a file of weights, got an empty file")
    if b"\0" not in start:  # the binary formats begin with sizes, which have such bytes
        for mark, kind in _STARTS.items():
            if start.lstrip().startswith(mark):
                raise ValueError(f"{path.name}: expected a file of weights, got {kind}")
    found = _safetensors(path) if path.suffix == ".safetensors" else _state_dict(path, _pytorch(path))
    return _without_prefix(found)


def as_array(where: str, value: Any) -> np.ndarray:
    """Convert a tensor of PyTorch or an array of NumPy to an array of floating-point numbers."""
    if hasattr(value, "detach"):
        value = value.detach()
        with _one_line(where, "a dense tensor"):
            try:
                value = value.numpy()
            except TypeError:  # bfloat16, which NumPy does not have
                value = value.float().numpy()
    array = np.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"{where}: expected floating-point numbers, got dtype {array.dtype}")
    return array


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        from safetensors.numpy import load_file
    except ImportError:
        raise ImportError(f"{path.name}: expected the package safetensors to be installed, got none") from None
    with _one_line(path.name, "a safetensors file"):
        return dict(load_file(path))


def _pytorch(path: Path) -> Any:
    """Return what a file of `torch.save` holds, which must be made of tensors and plain containers."""
    try:
        import torch
    except ImportError:
        raise ImportError(f"{path.name}: expected the package torch to be installed, got none") from None
    expected = f"{path.name}: expected a state dict of PyTorch"
    with contextlib.suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.filename.endswith("constants.pkl") for member in members):
            raise ValueError(f"{expected}, got a TorchScript program")
        # torch.save compresses nothing; a small file that is compressed could fill the memory.
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError(f"{expected}, got an archive with compressed members")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch's messages have many lines, and advise to run the code in the file
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        came = f"one that needs {named[1]}; save model.state_dict()" if named else "a truncated or another file"
        raise ValueError(f"{expected}, got {came}") from None


def _state_dict(path: Path, content: Any) -> dict[str, Any]:
    """Return the state dict in the content of a file, which may be an entry of it."""
    for _ in range(len(NESTED)):
        if not isinstance(content, Mapping):
            raise ValueError(f"{path.name}: expected a state dict, got an object of type {type(content).__name__}")
        if any(hasattr(value, "detach") for value in content.values()):
            break
        inner = next((content[key] for key in NESTED if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    for name, value in content.items():
        if not isinstance(name, str) or not hasattr(value, "detach"):
            raise ValueError(
                f"{path.name}: expected a state dict, or one in an entry {', '.join(NESTED)}, got a dict in which "
                f"{name!r} is of type {type(value).__name__}"
            )
    return dict(content)


def _without_prefix(found: dict[str, Any]) -> dict[str, Any]:
    """Return the arrays without the first part of their names if all have the same one, as no network's have."""
    while len(first := {name.partition(".")[0] for name in found}) == 1 and all("." in name for name in found):
        found = {name.removeprefix(f"{next(iter(first))}."): value for name, value in found.items()}
    return found


@contextlib.contextmanager
def _one_line(where: str, expected: str) -> Iterator[None]:
    """Turn any error of a reader into a ValueError of one line."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{where}: expected {expected}, got {first_line(error)}") from error
