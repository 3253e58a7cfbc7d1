"""Files of weights: what loads, and what comes instead, in one line that never advises to run the code in a file."""

import argparse
import functools
import gzip
import io
import json
import re
import struct
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdlab.models import load_torchvision, resnet18


@functools.cache
def shapes():
    """Return the shapes of the parameters and of the state of a narrow ResNet18."""
    return jax.eval_shape(resnet18(3, width=1).init, jax.random.key(0))


def torch_names():
    """Return the shapes of a narrow ResNet18 under torchvision's names, in PyTorch's order of axes."""
    found = {"conv1.weight": (1, 3, 7, 7), "fc.weight": (3, 8), "fc.bias": (3,)}
    norms = {"bn1": 1}
    inputs = 1
    for stage in range(4):
        outputs = 1 << stage
        for block in range(2):
            place = f"layer{stage + 1}.{block}"
            found[f"{place}.conv1.weight"] = (outputs, inputs, 3, 3)
            found[f"{place}.conv2.weight"] = (outputs, outputs, 3, 3)
            norms |= {f"{place}.bn1": outputs, f"{place}.bn2": outputs}
            if inputs != outputs:
                found[f"{place}.downsample.0.weight"] = (outputs, inputs, 1, 1)
                norms[f"{place}.downsample.1"] = outputs
            inputs = outputs
    for place, size in norms.items():
        found |= {f"{place}.{part}": (size,) for part in ("weight", "bias", "running_mean", "running_var")}
    return found


ONES = {name: np.ones(shape, np.float32) for name, shape in torch_names().items()}


def holds_ones(path):
    return all((np.asarray(leaf) == 1).all() for leaf in jax.tree.leaves(load_torchvision(path, *shapes())))


def refusal(path):
    with pytest.raises(ValueError, match=r"expected .* got ") as caught:
        load_torchvision(path, *shapes())
    said = str(caught.value)
    assert "\n" not in said
    assert "weights_only" not in said
    assert path.name in said
    return said


def safetensors(arrays):
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(value) for name, value in arrays.items()})


@pytest.mark.parametrize(
    ("prefix", "dtype"),
    [("", np.float16), ("module.", np.float64), ("module.model.", jnp.bfloat16)],
)
def test_weights_of_any_float_and_any_prefix_are_loaded(prefix, dtype, tmp_path):
    arrays = {f"{prefix}{name}": value.astype(dtype) for name, value in ONES.items()}
    arrays[f"{prefix}bn1.num_batches_tracked"] = np.array(3)
    (tmp_path / "w.safetensors").write_bytes(safetensors(arrays))
    assert holds_ones(tmp_path / "w.safetensors")


@pytest.mark.parametrize("length", [0, 8, 16])
def test_a_header_whose_length_looks_like_text_is_no_web_page(length, tmp_path):
    content = safetensors(ONES)
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 256 + ord("<") + 8 * (length // 8))
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])
    assert holds_ones(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (b"", "got an empty file"),
        (b" \n ", "got an empty file"),
        (b"<html>404</html>", "got a web page"),
        (b"\n <!DOCTYPE html>", "got a web page"),
        (b'{"error": "not found"}', "got text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "got a pointer of Git LFS"),
        (gzip.compress(b"weights", mtime=0), "expected a safetensors file, got SafetensorError"),
        (struct.pack("<Q", 1 << 60) + b"{}" * 99, "expected a safetensors file, got SafetensorError"),
        (struct.pack("<Q", 5) + b"hello", "expected a safetensors file, got SafetensorError"),
        (struct.pack("<Q", 9000) + b"[" * 9000, "expected a safetensors file, got SafetensorError"),
        *((lambda cut=cut: safetensors(ONES)[:cut], "expected a safetensors file") for cut in (4, 8, 100, -1)),
        (
            lambda: safetensors(ONES | {"fc.bias": np.ones(3, np.int32)}),
            "fc.bias: expected floating-point numbers, got dtype int32",
        ),
        (lambda: safetensors(ONES | {"fc.bias": np.ones(4, np.float32)}), r"fc.bias of shape \(3,\) .* got \(4,\)"),
        (lambda: safetensors({}), "got bn1.bias and 101 others missing"),
        (lambda: safetensors(ONES | {"a\nb": np.ones(1)}), r"got a\\nb unknown"),
    ],
)
def test_what_is_no_file_of_weights_is_named(content, answer, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content() if callable(content) else content)

    assert re.search(answer, refusal(path))


def test_wrong_arguments_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w.safetensors").write_bytes(safetensors(ONES))
    load_torchvision("~/w.safetensors", *shapes())
    params, state = shapes()
    for arguments, answer in (
        ((3, params, state), "path: expected a path, got 3"),
        (("", params, state), "path: expected a path, got ''"),
        ((tmp_path, params, state), "path: expected a file of weights, got .*, which is not a file"),
        (("n" * 300, params, state), "path: expected a file of weights, got n*, which is not a file"),
        (("~/w.safetensors", None, state), "params: expected a dict of arrays.*, got None"),
        (("~/w.safetensors", params, 3), "state: expected a dict of arrays.*, got 3"),
        (("~/w.safetensors", {"fc": [np.ones(3)]}, state), "params: expected only dicts of arrays, got an array"),
        (("~/w.safetensors", {"fc": "x"}, state), "params: expected only dicts of arrays, got 'x'"),
    ):
        with pytest.raises((TypeError, ValueError, FileNotFoundError), match=answer) as caught:
            load_torchvision(*arguments)
        assert "\n" not in str(caught.value)


# Files of PyTorch.


def saved(torch, content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


@pytest.mark.oracle
def test_state_dicts_are_loaded_wherever_a_checkpoint_has_them(tmp_path):
    torch = pytest.importorskip("torch")
    weights = {name: torch.from_numpy(value.copy()) for name, value in ONES.items()}
    parallel = {f"module.{name}": value for name, value in weights.items()}
    tracked = torch.tensor(3)
    for number, content in enumerate((
        weights,
        {"epoch": 3, "state_dict": weights, "optimizer": {"state": {}}},
        {"model": {"state_dict": parallel}},
        {"net": parallel | {"module.bn1.num_batches_tracked": tracked}},
        {"model_state_dict": {name: torch.nn.Parameter(value) for name, value in weights.items()}},
        {name: value.bfloat16() for name, value in weights.items()},
        {name: value.half() for name, value in weights.items()},
        {name: value.double() for name, value in weights.items()},
        {name: value.to(torch.float8_e4m3fn) for name, value in weights.items()},
    )):  # fmt: skip
        for suffix in (".pth", ".pth.tar"):
            path = tmp_path / f"{number}{suffix}"
            path.write_bytes(saved(torch, content))
            assert holds_ones(path)
    path.write_bytes(saved(torch, weights, _use_new_zipfile_serialization=False))
    assert holds_ones(path)


@pytest.mark.oracle
def test_what_is_no_state_dict_is_named(tmp_path):
    torch = pytest.importorskip("torch")
    weights = {name: torch.from_numpy(value.copy()) for name, value in ONES.items()}
    new, old = saved(torch, weights), saved(torch, weights, _use_new_zipfile_serialization=False)
    compressed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(new)) as source, zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    program = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), program)
    wide = torch.ones(1).expand(3, 10**10)
    cases = [
        (b"", "got an empty file"),
        (b"<html>404</html>", "got a web page"),
        (b"Not Found", "got a truncated or another file"),
        (b"PK\3\4abc", "got a truncated or another file"),
        (gzip.compress(new), "got a truncated or another file"),
        *((content[:cut], "truncated") for content in (new, old) for cut in (1, 99, 5000, len(content) // 2, -1)),
        (compressed.getvalue(), "got an archive with compressed members"),
        (program.getvalue(), "got a TorchScript program"),
        (saved(torch, torch.nn.Linear(2, 2)), "one that needs torch.nn.modules.linear.Linear; save model.state_dict()"),
        (saved(torch, {"state_dict": weights, "args": argparse.Namespace()}), "one that needs argparse.Namespace"),
        (saved(torch, [1]), "expected a state dict, got an object of type list"),
        (saved(torch, torch.ones(3)), "expected a state dict, got an object of type Tensor"),
        (saved(torch, {"epoch": 3}), "got a dict in which 'epoch' is of type int"),
        (saved(torch, {1: torch.ones(2)}), "got a dict in which 1 is of type Tensor"),
        (saved(torch, weights | {"rate": 0.1}), "got a dict in which 'rate' is of type float"),
        (saved(torch, {}), "got bn1.bias and 101 others missing"),
        (saved(torch, weights | {"fc.weight": wide}), "got (10000000000, 3)"),
        (saved(torch, weights | {"fc.bias": torch.ones(3).to_sparse()}), "fc.bias: expected a dense tensor"),
        (
            saved(torch, weights | {"fc.bias": torch.ones(3).cfloat()}),
            "expected floating-point numbers, got dtype comp",
        ),
    ]
    path = tmp_path / "w.pth"
    for content, answer in cases:
        path.write_bytes(content)
        assert answer in refusal(path)
