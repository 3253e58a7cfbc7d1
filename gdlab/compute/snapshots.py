"""Snapshots of functions: whether everything that a function reads is still what it was when it was traced."""

import collections
import dis
import functools
import hashlib
import types
from collections.abc import Callable, Hashable, Iterator
from inspect import Signature
from typing import Any

import jax
import numpy as np

from gdlab.compute.programs import Cache

FIXED = frozenset(
    {"abc", "builtins", "cmath", "collections", "copyreg", "dataclasses", "enum", "functools", "inspect", "itertools"}
    | {"math", "numbers", "operator", "reprlib", "types", "typing", "typing_extensions"}
    | {"chex", "flax", "gdlab", "jax", "jaxlib", "jaxtyping", "ml_dtypes", "numpy", "optax", "scipy"}
)
"""Packages whose modules, classes and functions are taken not to change while a process runs."""

OPAQUE = frozenset({"eval", "exec", "compile", "globals", "open", "input", "__import__", "breakpoint"})
"""Builtins through which a function may read anything."""

RULES = ("jvp", "fwd", "bwd", "vmap_rule")
"""The attributes in which JAX's transformed functions hold the custom rules of the user."""

LARGEST = 20_000
"""The largest number of objects in a snapshot; what reads more of them is not worth comparing."""

_MARKS = (type(None), type(Ellipsis), type(NotImplemented), bool, int, str, bytes)


class _UnknownError(Exception):
    """Raised for an object whose contents cannot be known."""


class Same:
    """A hashable stand-in for an object that equals only itself."""

    __slots__ = ("held",)

    def __init__(self, held: Any):
        """Hold the object, which therefore keeps its identity."""
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.held is other.held

    def __hash__(self) -> int:
        return id(self.held)


def snapshot(value: Any) -> Hashable | None:
    """Return all that a function, or a structure of functions, can read, as a value that can be compared and hashed.

    It covers code, defaults, closures, the global variables that the code names, the objects that methods are bound to
    and the arguments of `functools.partial`, down to the contents of lists, dicts and NumPy arrays. Two equal snapshots
    of one process therefore stand for the same traced program, and an object that was changed in between has another
    snapshot, although it is the same object. JAX arrays cannot change, so they are compared by identity.

    Returns:
      The snapshot; or None if it cannot be known what is read, as for instances of a class of the user, whose methods
      and attributes may be anything, for modules of the user, and for functions that open files.
    """
    try:
        return _Reader().read(value)
    except (_UnknownError, RecursionError):
        return None


def kept(cache: Cache, objects: Any, key: Hashable, make: Callable[[], Any]) -> Any:
    """Return `make()`, or what it returned for `key` while nothing that the objects read has changed since.

    Where it cannot be known what they read, `make` is called every time.
    """
    read = snapshot(objects)
    return make() if read is None else cache.get((read, key), make)


class _Reader:
    def __init__(self) -> None:
        self.seen: dict[int, int] = {}
        self.held: list[Any] = []  # keeps the identities of objects that are made on the way

    def read(self, value: Any) -> Hashable:
        kind = type(value)
        if kind in _MARKS:
            return kind, value
        if kind in (float, complex):
            return kind, repr(value)  # tells 0.0 from -0.0, and finds NaN equal to itself
        place = self.seen.get(id(value))
        if place is not None:
            return "seen", place
        self.seen[id(value)] = len(self.seen)
        self.held.append(value)
        if len(self.seen) > LARGEST:
            raise _UnknownError
        found = self._known(value)
        return self._instance(value) if found is None else (kind, found)

    def all(self, values: Any) -> Hashable:
        return tuple([self.read(value) for value in values])

    def _known(self, value: Any) -> Hashable | None:
        """Return the contents of an object of a known type, or None for any other."""
        kind = type(value)
        if kind in (tuple, list, set, frozenset):
            return self.all(value)
        if kind in (dict, collections.OrderedDict, types.MappingProxyType):
            return self.all(value), self.all(value.values())
        if isinstance(value, jax.Array):
            return Same(value) if not isinstance(value, jax.core.Tracer) else self._refuse()
        if kind is np.ndarray or isinstance(value, np.generic):
            return self._array(np.asarray(value))
        if isinstance(value, jax.tree_util.PyTreeDef):
            return self._structure(value)
        if isinstance(value, (np.dtype, Signature)):
            return Same(value) if isinstance(value, Signature) else value
        if isinstance(value, (types.ModuleType, type)):
            name = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
            return Same(value) if _is_fixed(name) and value is not np.random else self._refuse()
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return self.read(value.__func__), self.read(value.__self__)
        if isinstance(value, (types.BuiltinFunctionType, np.ufunc)):
            owner = getattr(value, "__self__", None)
            fixed = owner is None or isinstance(owner, types.ModuleType)
            return Same(value) if fixed and _is_fixed(getattr(value, "__module__", None) or "numpy") else self._refuse()
        if kind is functools.partial:
            return self.read(value.func), self.read(value.args), self.read(value.keywords), self.read(vars(value))
        if callable(value) and hasattr(value, "__wrapped__") and _is_fixed(kind.__module__):
            # A function that JAX has transformed, such as by jit: what was asked of JAX is part of its identity. Its
            # custom rules, if it has any, are functions of their own.
            return Same(value), self.read(value.__wrapped__), self.all(getattr(value, rule, None) for rule in RULES)
        return None

    def _array(self, array: np.ndarray) -> Hashable:
        if array.dtype.hasobject:
            self._refuse()
        return array.shape, array.dtype, hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest()

    def _structure(self, structure: jax.tree_util.PyTreeDef) -> Hashable:
        """Return the structure of a tree of dicts, lists and tuples; other nodes may hold functions."""
        node = structure.node_data()
        if node is not None and node[0] not in (dict, list, tuple, type(None)):
            self._refuse()
        return str(structure), tuple([self._structure(child) for child in structure.children()])

    def _instance(self, value: Any) -> Hashable:
        """Return what `pickle` would save of an instance of a fixed class."""
        kind = type(value)
        if not _is_fixed(kind.__module__):
            self._refuse()
        try:
            saved = object.__reduce_ex__(value, 2)
        except Exception:  # not every object can be saved
            raise _UnknownError from None
        if isinstance(saved, str):
            raise _UnknownError
        parts = [list(part) if isinstance(part, Iterator) else part for part in saved[1:]]
        return Same(kind), self.all(parts)

    def _function(self, function: types.FunctionType) -> Hashable:
        code, home = function.__code__, function.__globals__.get("__name__", "")
        if _is_fixed(home) and (function.__closure__ is None or _is_named(function)):
            return Same(function), Same(code)
        if not _is_fixed(home) and _may_draw(function):
            self._refuse()
        closure = [self._cell(cell) for cell in function.__closure__ or ()]
        own = Same(code), self.read(function.__defaults__), self.read(function.__kwdefaults__), tuple(closure)
        return own if _is_fixed(home) else (own, self.read(vars(function)), self._globals(function))

    def _cell(self, cell: Any) -> Hashable:
        try:
            return self.read(cell.cell_contents)
        except ValueError:  # nothing was assigned to the variable
            return "empty"

    def _globals(self, function: types.FunctionType) -> Hashable:
        named, imported, _ = _names(function.__code__)
        if named & OPAQUE or not all(map(_is_fixed, imported)):
            self._refuse()
        known = function.__globals__
        return tuple((name, self.read(known[name])) for name in sorted(named) if name in known)

    def _refuse(self) -> Any:
        raise _UnknownError


def _is_fixed(module: str | None) -> bool:
    return (module or "").partition(".")[0] in FIXED


def _may_draw(function: types.FunctionType) -> bool:
    """Return whether the function may draw from NumPy's global generator, whose state is not among what it reads."""
    named, imported, attributes = _names(function.__code__)
    return "random" in attributes and ("numpy" in imported or any(function.__globals__.get(n) is np for n in named))


def _is_named(function: types.FunctionType) -> bool:
    """Return whether the function is the one that its module holds under its name, such as a decorated one."""
    return function.__globals__.get("__name__") == function.__module__ and (
        function.__globals__.get(function.__qualname__) is function
    )


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Return the names of all global variables, imported modules and attributes in the code and in inner functions."""
    named: set[str] = set()
    imported: set[str] = set()
    attributes: set[str] = set()
    for each in dis.get_instructions(code):
        if each.opname in ("LOAD_GLOBAL", "LOAD_NAME", "DELETE_GLOBAL"):
            named.add(each.argval)
        elif each.opname == "IMPORT_NAME":
            imported.add(each.argval)
        elif each.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            attributes.add(each.argval)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            for found, more in zip((named, imported, attributes), _names(inner), strict=True):
                found |= more
    return frozenset(named), frozenset(imported), frozenset(attributes)
