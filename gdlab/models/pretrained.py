"""Loading of torchvision's weights into the parameters of a ResNet."""

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
    """Load a torchvision state dict of a ResNet.

    The file and the network must have arrays of the same names and shapes. The exception is the second layer of
    `two_layer_head`, which no such file contains; it is returned unchanged.

    Args:
      path: a `.pth`, `.pt` or `.safetensors` file. Reading a `.pth` file requires PyTorch; only arrays are unpickled.
        Reading a `.safetensors` file requires the package safetensors.
      params: the parameters of the network, as returned by `model.init(key)`, or their shapes.
      state: the state of the network, as returned by `model.init(key)`, or its shapes.

    Returns:
      (params, state) with the values of the file, in the dtypes of the arguments.

    Raises:
      FileNotFoundError: if there is no such file.
      ImportError: if the package that reads the file is not installed.
      ValueError: if the file has another suffix, or if its arrays differ from those of the network in name or shape.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path: expected a file of weights, got {path}, which is not a file")
    found = {name: value for name, value in _read(path).items() if not name.endswith("num_batches_tracked")}
    expected = {_torch_name(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path((params, state))}
    expected = {name: leaf for name, leaf in expected.items() if not name.startswith("head.")}
    for problem, names in (("missing", expected.keys() - found.keys()), ("unknown", found.keys() - expected.keys())):
        if names:
            raise ValueError(f"{path.name}: expected the arrays of the network, got {_some(names)} {problem}")

    def fill(keys: Any, leaf: Any) -> Any:
        name = _torch_name(keys)
        if name not in expected:
            return leaf
        value = np.asarray(found[name])
        value = value.transpose({4: (2, 3, 1, 0), 2: (1, 0)}.get(value.ndim, range(value.ndim)))
        if value.shape != leaf.shape:
            raise ValueError(
                f"{path.name}: expected {name} of shape {leaf.shape} in JAX's axis order, got {value.shape}"
            )
        return jnp.asarray(value, leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, (params, state))


def _torch_name(keys: Any) -> str:
    """Return torchvision's name of an array.

    For example, layer1_0, downsample_conv, kernel becomes `layer1.0.downsample.0.weight`. The first key, which is the
    index into (params, state), is dropped.
    """
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
            raise ImportError(f"{path.name}: expected the package safetensors to be installed, got none") from None
        return load_file(path)
    if path.suffix not in (".pth", ".pt"):
        raise ValueError(f"path: expected a .pth or .safetensors file, got {path.name}")
    try:
        import torch
    except ImportError:
        raise ImportError(f"{path.name}: expected the package torch to be installed, got none") from None
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path.name}: expected a state dict, got a {type(content).__name__}")
    return {name: value.numpy() for name, value in content.items()}
