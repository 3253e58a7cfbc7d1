"""Load torchvision's weights into the parameters of a ResNet."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

NAMES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
    "downsample_conv": "downsample.0",
    "downsample_bn": "downsample.1",
}


def load_torchvision(path: str | Path, params: PyTree, state: PyTree) -> tuple[PyTree, PyTree]:
    """(params, state) of a ResNet with the values of a torchvision state dict, `.pth` or `.safetensors`.

    params, state: as `model.init(key)` returns them, or their shapes. Their arrays and those of the file must have the
    same names and shapes, except for the second layer of `two_layer_head`, which no such file holds: it is returned as
    it is given. Dtypes are those of params and state. `.pth` files need PyTorch, and only arrays are unpickled.

    Raises FileNotFoundError, ImportError where the package that reads the file is missing, and ValueError for missing
    or unknown names and for other shapes.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: wanted a file of weights, got {path}, which is not a file")
    found = {name: value for name, value in _read(path).items() if not name.endswith("num_batches_tracked")}
    wanted = {_torch_name(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path((params, state))}
    wanted = {name: leaf for name, leaf in wanted.items() if not name.startswith("head.")}
    for problem, names in (("missing", wanted.keys() - found.keys()), ("unknown", found.keys() - wanted.keys())):
        if names:
            raise ValueError(f"{path.name}: wanted the arrays of the network, got {_some(names)} {problem}")

    def fill(keys: Any, leaf: Any) -> Any:
        name = _torch_name(keys)
        if name not in wanted:
            return leaf
        value = np.asarray(found[name])
        value = value.transpose({4: (2, 3, 1, 0), 2: (1, 0)}.get(value.ndim, range(value.ndim)))
        if value.shape != leaf.shape:
            raise ValueError(f"{path.name}: wanted {name} of shape {leaf.shape} in our order, got {value.shape}")
        return jnp.asarray(value, leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, (params, state))


def _torch_name(keys: Any) -> str:
    """`layer1.0.downsample.0.weight` for layer1_0, downsample_conv, kernel; the first key, of the tuple, is dropped."""
    parts = [key.key for key in keys[1:]]
    return ".".join(NAMES.get(part, re.sub(r"^(layer\d)_", r"\1.", part)) for part in parts)


def _some(names: Any) -> str:
    first, *others = sorted(names)
    return f"{first} and {len(others)} others" if others else first


def _read(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".safetensors":
        try:
            from safetensors.numpy import load_file
        except ImportError:
            raise ImportError(f"{path.name}: wanted the package safetensors to read it, got none installed") from None
        return load_file(path)
    if path.suffix not in (".pth", ".pt"):
        raise ValueError(f"path: wanted a .pth or .safetensors file, got {path.name}")
    try:
        import torch
    except ImportError:
        raise ImportError(f"{path.name}: wanted the package torch to read it, got none installed") from None
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path.name}: wanted a state dict, got a {type(content).__name__}")
    return {name: value.numpy() for name, value in content.items()}
