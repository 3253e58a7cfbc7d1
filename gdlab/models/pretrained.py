"""Loading of torchvision's weights into the parameters of a ResNet."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from gdlab.arguments import as_path, describe, require_instance
from gdlab.models.weights import as_array, read_weights

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
      path: a `.pth`, `.pt`, `.ckpt`, `.bin`, `.pth.tar` or `.safetensors` file. All but the last are files of
        `torch.save`, and reading them requires PyTorch; only arrays are unpickled. The state dict may be an entry of a
        training checkpoint, such as "state_dict" or "model", and its names may have a common prefix, such as "module.".
        Reading a `.safetensors` file requires the package safetensors.
      params: the parameters of the network, as returned by `model.init(key)`, or their shapes.
      state: the state of the network, as returned by `model.init(key)`, or its shapes.

    Returns:
      (params, state) with the values of the file, in the dtypes of the arguments.

    Raises:
      FileNotFoundError: if there is no such file.
      ImportError: if the package that reads the file is not installed.
      TypeError: if `params` or `state` are not those of a network.
      ValueError: if the file has another suffix, is damaged or has anything but arrays, or if its arrays differ from
        those of the network in name or shape.
    """
    path = as_path("path", path)
    _require_tree("params", params)
    _require_tree("state", state)
    if not os.path.isfile(path):  # Path.is_file raises for a name that is too long
        raise FileNotFoundError(f"path: expected a file of weights, got {path}, which is not a file")
    found = {name: value for name, value in read_weights(path).items() if not name.endswith("num_batches_tracked")}
    expected = {_torch_name(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path((params, state))}
    expected = {name: leaf for name, leaf in expected.items() if not name.startswith("head.")}
    for problem, names in (("missing", expected.keys() - found.keys()), ("unknown", found.keys() - expected.keys())):
        if names:
            raise ValueError(f"{path.name}: expected the arrays of the network, got {_some(names)} {problem}")

    def fill(keys: Any, leaf: Any) -> Any:
        name = _torch_name(keys)
        if name not in expected:
            return leaf
        shape = tuple(found[name].shape)
        order = {4: (2, 3, 1, 0), 2: (1, 0)}.get(len(shape), tuple(range(len(shape))))
        if (turned := tuple(shape[axis] for axis in order)) != tuple(leaf.shape):
            raise ValueError(f"{path.name}: expected {name} of shape {leaf.shape} in JAX's axis order, got {turned}")
        return jnp.asarray(as_array(f"{path.name}: {name}", found[name]).transpose(order), leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, (params, state))


def _require_tree(name: str, tree: Any) -> None:
    """Raise TypeError unless a tree consists of dicts of arrays, or of their shapes and dtypes."""
    require_instance(name, tree, Mapping, "a dict of arrays, as model.init(key) returns it")
    for keys, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not all(isinstance(key, jax.tree_util.DictKey) for key in keys) or not hasattr(leaf, "dtype"):
            raise TypeError(
                f"{name}: expected only dicts of arrays, got {describe(leaf)} at {jax.tree_util.keystr(keys)}"
            )


def _torch_name(keys: Any) -> str:
    """Return torchvision's name of an array.

    For example, layer1_0, downsample_conv, kernel becomes `layer1.0.downsample.0.weight`. The first key, which is the
    index into (params, state), is dropped.
    """
    parts = [key.key for key in keys[1:]]
    return ".".join(NAMES.get(part, re.sub(r"^(layer\d)_", r"\1.", part)) for part in parts)


def _some(names: Any) -> str:
    first, *others = sorted(names)
    shown = repr(first)[1:-1]  # a name in a file may have line breaks
    return f"{shown} and {len(others)} others" if others else shown
