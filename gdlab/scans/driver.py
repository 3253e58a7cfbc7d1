"""`scan`: any function of hyperparameters and a random key, in compiled programs, as a labelled dataset."""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from gdlab.arguments import as_chunk, as_path, require_flag
from gdlab.compute.devices import local_devices, platform_of
from gdlab.compute.forks import require_unforked
from gdlab.compute.interrupts import heeded
from gdlab.compute.programs import digest_array
from gdlab.compute.promotion import standard_promotion
from gdlab.compute.threads import ahead, thread_devices, usable_cores
from gdlab.records.blocks import Blocks
from gdlab.scans.plans import Runner, Work
from gdlab.scans.processes import open_blocks, own_lanes
from gdlab.scans.programs import LanePrograms
from gdlab.scans.results import Results
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
    width = as_chunk(chunk)
    require_flag("progress", progress)
    save_to = None if save_to is None else as_path("save_to", save_to)
    devices = local_devices(devices)
    found = make_space(fn, space, static, seeds)
    with jax.disable_jit(False):
        traces = _traces(fn, found)
        with standard_promotion():
            return _Request(found, traces, width, devices, save_to, progress).run(began)


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
    results = found[0].results
    axes = [axis for name, result in results.items() for axis in _axes_of(name, len(result.shape))]
    ours = {*space.sizes, *space.names, *space.static, "trial"}
    for name in (*results, *axes):
        if name in ours or (name in results and name in axes):
            raise ValueError(
                f"fn: expected results that are not named like a dimension, got {name!r}, at {place_of(fn)}"
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
        self.compile_seconds = 0.0

    def run(self, began: float) -> xr.Dataset:
        shape = (len(self.traces), self.space.layout.lanes)
        kinds = self.traces[0].results.items()
        empty = {name: np.zeros((*shape, *result.shape), result.dtype) for name, result in kinds}
        results = Results(empty, self.lanes, self._blocks())
        plans = []
        total = len(self.lanes) * len(self.traces)
        with tqdm(total=total, unit=" lanes", unit_scale=True, disable=None if self.progress else True) as bar:
            for index, programs in enumerate(self._programs(results)):
                work = Work(index, self.lanes, self._arguments, results, bar.update)
                runner = Runner(programs, work, self.width, self.threads)
                runner.run()
                plans.append(runner.summary())
                self.compile_seconds += programs.compile_seconds
        tails = {name: _axes_of(name, len(result.shape)) for name, result in kinds}
        variables = results.variables(self.space.sizes, tails)
        attributes = self._attributes(plans, time.perf_counter() - began)
        return xr.Dataset(variables, coords=xr.Coordinates(self.space.coordinates()), attrs=attributes)

    def _arguments(self, lanes: range) -> list[np.ndarray]:
        return [self.space.seeds_of(lanes), *self.space.values(lanes)]

    def _programs(self, results: Results) -> Iterator[LanePrograms]:
        """Yield the programs of each trace; those of traces that have not begun are compiled in advance."""
        every = [LanePrograms(traced) for traced in self.traces]
        if len(every) == 1 or not self.lanes:
            return iter(every)

        def prepared(index: int) -> LanePrograms:
            if not results.is_decided(f"{index}-blocks"):
                every[index].compiled(None if self.width == 1 else self.width, self.devices[0])
            return every[index]

        return ahead(prepared, range(len(every)), usable_cores())

    def _blocks(self) -> Blocks | None:
        if self.save_to is None:
            return None
        digests = [traced.digest for traced in self.traces]
        if None in digests:
            raise ValueError("save_to: expected a function without Python callbacks, got one that calls Python")
        layout = self.space.layout
        grid = {name: digest_array(array.values) + str(array.dims) for name, array in sorted(layout.numbers.items())}
        identity = {
            "fn": f"{' '.join(map(str, digests))} {list(self.traces[0].results)}",
            "space": f"{grid} {layout.axes}",
            "static": str({name: axis.labels() for name, axis in self.space.static.items()}),
            "seeds": str(self.space.seeds.tolist()),
            "chunk": str(self.chunk),
            "versions and platform": platform_of(self.devices[0]),
        }
        return open_blocks("gdlab.scan", self.save_to, identity)

    def _attributes(self, plans: list[Any], seconds: float) -> dict[str, Any]:
        return {
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
