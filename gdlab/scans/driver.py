"""`scan`: any function of hyperparameters and a random key, in compiled programs, as a labelled dataset."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from gdlab.arguments import as_path, require_count, require_flag
from gdlab.compute.devices import local_devices, platform_of
from gdlab.compute.forks import require_unforked
from gdlab.compute.interrupts import heeded
from gdlab.compute.programs import digest_array
from gdlab.compute.promotion import standard_promotion
from gdlab.compute.threads import ahead, thread_devices, usable_cores
from gdlab.records.blocks import Blocks
from gdlab.scans.plans import Runner
from gdlab.scans.processes import gathered, open_blocks, own_lanes
from gdlab.scans.programs import LanePrograms
from gdlab.scans.space import Space, make_space
from gdlab.scans.traces import Trace, place_of, trace_lane
from gdlab.version import VERSION


@heeded()
def scan(
    fn: Callable[..., Any],
    space: Any,
    *,
    seeds: int | Sequence[int] = 1,
    static: Mapping[str, Any] | None = None,
    chunk: int | str = "auto",
    devices: Sequence[jax.Device] | None = None,
    save_to: str | Path | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Call a function with every setting of its hyperparameters and every seed.

    The function may be anything that JAX can trace, such as a whole training run in `jax.lax.scan`. It is traced once
    and compiled once; a lane is one call of it. Lanes run one after another on all cores, or several of them in one
    call by `jax.vmap`: what is left is timed both ways if it takes longer than compiling, and the faster way is
    remembered. Data that the function reads from outside has the value of the moment. NaN is a result, not an error.

    Args:
      fn: `fn(key, **hyperparameters)` returns a dict of arrays. The key is `jax.random.key(seed)`. The function must be
        pure: JAX calls it once, with traced values.
      space: a mapping from arguments of the function to a number, a 1-D array of values, a range with a number of
        values, such as `gdlab.log_range(1e-4, 1.0, 16)`, or an `xarray.DataArray`, whose dimensions become those of
        the result. The product of the arrays is scanned, and each is a dimension of the result. Alternatively, a list
        of mappings (the points of a search, as `gdlab.sample_hyperparameters` returns them), which gives the result
        the dimension "trial". Integers are traced as int32, and other numbers as float32 (in 64-bit mode as float64).
      seeds: the number of seeds (0, 1, ...), or a sequence of seeds. Default 1.
      static: a mapping from arguments of the function that shape its program (widths, batch sizes, functions, flags)
        to a list of values. Each combination is traced and compiled once, and each list is a dimension of the result,
        labelled by the values, or by the names of functions. A value that is no list is an argument without a
        dimension. Default None.
      chunk: the number of lanes per call; 1 runs them one after another. "auto", the default, chooses by timing. The
        numbers of a lane depend on it in their rounding only.
      devices: the devices to use. Each runs its own lanes; a single CPU device uses all cores. Default None, all
        devices of this process. Where `jax.distributed` is initialized, the processes divide the lanes among
        themselves, and each returns the whole result.
      save_to: a folder for blocks of finished lanes. The same call continues there after an interruption, and its
        result has the same bits as without the interruption. Default None.
      progress: whether to show a progress bar on a terminal. Default True.

    Returns:
      A dataset with a variable for each array of the function's dict, whose dimensions are those of `static`, those of
      the space, "seed", and one for each axis of the array, called `NAME_0`, `NAME_1` and so on. Its attributes record
      the device, how long compiling and running took, and how many lanes each call had.

    Raises:
      TypeError: if an argument has the wrong type, or the function cannot be traced or does not return a dict of
        arrays; the message names the argument and the place.
      ValueError: if the function does not take an argument or requires another, an axis is empty or has a value twice,
        results have the name of a dimension, or shapes that vary with a static value, or `save_to` holds another scan.
      FileNotFoundError: if `save_to` is moved or deleted during the scan.
      RuntimeError: in a process that was forked after JAX had started.

    Example:
      >>> import jax, gdlab
      >>> def fn(key, learning_rate):
      ...     return {"loss": (1 - 2 * learning_rate) ** 10 * jax.random.normal(key) ** 2}
      >>> gdlab.scan(fn, {"learning_rate": gdlab.log_range(1e-3, 0.1, 5)}, seeds=4).loss.shape
      (5, 4)
    """
    began = time.perf_counter()
    require_unforked("scan")
    if not isinstance(chunk, str) or chunk != "auto":
        require_count("chunk", chunk)
    require_flag("progress", progress)
    save_to = None if save_to is None else as_path("save_to", save_to)
    devices = local_devices(devices)
    found = make_space(fn, space, static, seeds)
    with jax.disable_jit(False):
        traces = _traces(fn, found)
        with standard_promotion():
            size = None if isinstance(chunk, str) else int(chunk)
            return _Request(found, traces, size, devices, save_to, progress).run(began)


def _traces(fn: Callable[..., Any], space: Space) -> list[Trace]:
    """Trace the lane of each combination of static values, and compare their results."""
    first: tuple[Mapping[str, Any], Trace] | None = None
    found = []
    for static in space.combinations():
        traced = trace_lane(fn, space.names, space.dtypes, static)
        found.append(traced)
        first = first or (static, traced)
        for name in dict.fromkeys((*first[1].results, *traced.results)):
            was, now = first[1].results.get(name), traced.results.get(name)
            if was != now:
                raise ValueError(
                    f"fn: expected results that do not vary with static arguments, got {name!r} {_kind(was)} for "
                    f"{_shown(first[0])} and {_kind(now)} for {_shown(static)}; reduce it to one shape, or "
                    "run one scan for each value"
                )
    taken = {*space.sizes, *space.names, *space.static, "trial"}
    for name, result in found[0].results.items():
        for dimension in (name, *_axes_of(name, len(result.shape))):
            if dimension in taken:
                raise ValueError(
                    f"fn: expected results that are not named like a dimension, got {dimension!r}, at {place_of(fn)}"
                )
    return found


def _axes_of(name: str, count: int) -> list[str]:
    """Return the dimensions of a result beyond those of its lanes, named as `sweep` names those of `reduce`."""
    return [f"{name}_{axis}" for axis in range(count)]


def _kind(result: jax.ShapeDtypeStruct | None) -> str:
    return "missing" if result is None else f"of shape {result.shape} and dtype {result.dtype}"


def _shown(static: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={getattr(value, '__name__', repr(value))}" for name, value in static.items())


@dataclasses.dataclass
class _Request:
    """A checked call of `scan` and its results so far."""

    space: Space
    traces: list[Trace]
    chunk: int | None
    devices: list[jax.Device]
    save_to: Path | None
    progress: bool

    def __post_init__(self) -> None:
        self.lanes = own_lanes(self.space.layout.lanes)
        self.threads = thread_devices(self.devices)
        self.width = None if self.chunk is None else max(1, min(self.chunk, len(self.lanes)))
        shape = (len(self.traces), self.space.layout.lanes)
        self.arrays = {
            name: np.zeros((*shape, *result.shape), result.dtype) for name, result in self.traces[0].results.items()
        }
        self.compile_seconds = 0.0

    def run(self, began: float) -> xr.Dataset:
        blocks = self._blocks()
        total = len(self.lanes) * len(self.traces)
        plans = []
        with tqdm(total=total, unit=" lanes", unit_scale=True, disable=None if self.progress else True) as bar:
            for index, programs in enumerate(self._programs()):
                store = _Store(self, index, blocks, bar.update)
                runner = Runner(programs, self.lanes, self.width, self.threads, store)
                runner.run()
                plans.append(runner.summary())
                self.compile_seconds += programs.compile_seconds
        mine = np.zeros(self.space.layout.lanes, bool)
        mine[self.lanes.start : self.lanes.stop] = True
        return self._label(gathered(self.arrays, mine), plans, time.perf_counter() - began)

    def _programs(self) -> Any:
        """Yield the programs of each trace; the first one of each is compiled in advance."""
        every = [LanePrograms(traced) for traced in self.traces]
        if len(every) == 1 or not self.lanes:
            return iter(every)

        def compiled(programs: LanePrograms) -> LanePrograms:
            programs.compiled(None if self.width in (None, 1) else self.width, self.devices[0])
            return programs

        return ahead(compiled, every, usable_cores())

    def _blocks(self) -> Blocks | None:
        if self.save_to is None:
            return None
        digests = [traced.digest for traced in self.traces]
        if None in digests:
            raise ValueError("save_to: expected a function without Python callbacks, got one that calls Python")
        layout = self.space.layout
        grid = {name: digest_array(array.values) + str(array.dims) for name, array in sorted(layout.numbers.items())}
        identity = {
            "fn": f"{' '.join(map(str, digests))} {list(self.arrays)}",
            "space": f"{grid} {layout.axes}",
            "static": str({name: axis.labels() for name, axis in self.space.static.items()}),
            "seeds": str(self.space.seeds.tolist()),
            "chunk": str(self.chunk),
            "versions and platform": platform_of(self.devices[0]),
        }
        return open_blocks("gdlab.scan", self.save_to, identity)

    def _label(self, arrays: Mapping[str, np.ndarray], plans: list[Any], seconds: float) -> xr.Dataset:
        sizes = self.space.sizes
        variables = {}
        for name, array in arrays.items():
            tail = array.shape[2:]
            dims = (*sizes, *_axes_of(name, len(tail)))
            variables[name] = (dims, array.reshape(*sizes.values(), *tail))
        attributes = {
            "lanes": self.space.layout.lanes * len(self.traces),
            "seconds": seconds,
            "compile_seconds": self.compile_seconds,
            "plan": json.dumps(plans),
            "device": f"{len(self.devices)} x {self.devices[0].device_kind}",
            "platform": self.devices[0].platform,
            "threads": len(self.threads),
            "processes": jax.process_count(),
            "gdlab": VERSION,
            "jax": jax.__version__,
        }
        coordinates = xr.Coordinates(self.space.coordinates())
        return xr.Dataset(variables, coords=coordinates, attrs=attributes)


class _Store:
    """Where the results and decisions of one program go: into the arrays of the request, and to disk."""

    def __init__(self, request: _Request, index: int, blocks: Blocks | None, tick: Callable[[int], Any]):
        self.request, self.index, self.blocks, self.tick = request, index, blocks, tick

    def resume(self, low: int, high: int, width: int | None) -> bool:
        held = self.blocks.load(self.index, low, high, width or 0) if self.blocks else None
        if held is None:
            return False
        self._keep(low, high, [held[name] for name in self.request.arrays])
        return True

    def keep(self, low: int, high: int, width: int | None, found: list[Any]) -> None:
        self._keep(low, high, found)
        if self.blocks:
            named = dict(zip(self.request.arrays, found, strict=True))
            self.blocks.save(self.index, low, high, width or 0, arrays=named)

    def _keep(self, low: int, high: int, found: list[Any]) -> None:
        for array, values in zip(self.request.arrays.values(), found, strict=True):
            array[self.index, low:high] = values
        self.tick(high - low)

    def decided(self, what: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if self.blocks is None:
            return make()
        name = f"plan-{self.index}-{jax.process_index()}-of-{jax.process_count()}-{what}"
        held = self.blocks.load_plan(name)
        return held if held is not None else self.blocks.keep_plan(make(), name)

    def arguments(self, lanes: range) -> tuple[np.ndarray, list[np.ndarray]]:
        return self.request.space.seeds_of(lanes), self.request.space.values(lanes)
