"""The tables of speed, for the page of results."""

from statistics import median

from benchmarks.tables import Results, figure, table


def sweep_speed(found: Results) -> list[str]:
    counts = (1, 100, 10_000, 100_000, 1_000_000)
    speeds = {(row["contender"], row["starts"]): row["million_point_steps_per_second"] for row in found["rows"]}
    rows = [
        (name, *(figure(speeds.get((name, count))) for count in counts))
        for name in dict.fromkeys(row["contender"] for row in found["rows"])
    ]
    ratio, memory, grid = found["ratios"], found["memory"], found["grid"]
    shares = [(name, f"{pair['ratio']:.2f}", f"{pair['ratio_tuned']:.2f}") for name, pair in found["beside_c"].items()]
    torch, loop = ratio["gdlab at 10^6 / torch's best"], ratio["gdlab at 10^6 / optax loop's best"]
    return [
        "Million steps of a point per second, by number of starts: Ackley in two dimensions with Adam, 500 steps, "
        "float32. Medians, all in one run.",
        table(("program", "1", "100", "10^4", "10^5", "10^6"), rows),
        "Measured in turns with C programs, as shares of their speed. The C programs neither check for failures nor "
        "record stops.",
        table(("case", "-O3 -march=native -ffast-math", "flags tuned to the processor"), shares),
        "- **A call has a fixed cost of some milliseconds: below a few hundred starts a jitted scan of your own is "
        "faster.**\n"
        f"- At 10^6 starts the sweep is {torch:.0f} times as fast as PyTorch's best "
        f"and {loop:.0f} times as fast as the best of a loop around a jitted "
        f"optax step. A million starts take {memory['mib_peak']:.0f} MiB, {memory['mib_before']:.0f} of them before "
        "the first.\n"
        f"- A grid of 64 x 64 learning rates and momenta from 256 starts takes {grid['sweep_seconds']:.2f} s: "
        f"{grid['ratio_loop']:.1f} times as fast as a Python loop over one jitted run, and "
        f"{grid['ratio_rebuilding']:.0f} times as fast as building the optimizer for each setting.",
    ]


def training_speed(found: Results) -> list[str]:
    rows = [
        (stem, *(figure(row["images_per_second"]) for row in one["contenders"].values()), f"{one['ratio']:.2f}")
        for stem, one in found["stems"].items()
    ]
    return [
        "Images per second of a whole training step of ResNet18: images of 32 x 32, batches of 64, float32, "
        "augmentation included. \"source\" is torchvision's first layer and the source article's two last ones, "
        '"cifar" the first layer for small images. '
        "Medians, all in one run; the ratio is to the faster of the two others.",
        table(("stem", "gdlab", "PyTorch eager", "PyTorch compiled", "ratio"), rows),
    ]


def task_speed(found: Results) -> list[str]:
    rows = [
        (
            name,
            str(one["batch"]),
            *(f"{one['seconds_a_step'][who]:.3g}" for who in ("gdlab", "torch")),
            f"{one['ratio']:.2f}",
        )
        for name, one in found["tasks"].items()
    ]
    return [
        "Seconds of a training step of the Demon benchmark's six networks at full size with Adam; medians of rounds in "
        "turn, PyTorch eager. A ratio above 1 means that gdlab is faster. ResNet18 has the stem for small images, "
        "WRN-16-8 images of 96 x 96, and both a smaller batch than the benchmark's.",
        table(("task", "batch", "gdlab", "PyTorch", "ratio"), rows),
    ]


def many_speed(found: Results) -> list[str]:
    least = found["results"]["gdlab train, one at a time"]["trainings_an_hour"]
    rows = [
        (name, f"{row['trainings_an_hour']:,.0f}", f"{row['trainings_an_hour'] / least:.1f}")
        for name, row in found["results"].items()
    ]
    return [
        f"Trainings per hour of a small network (digits, {found['epochs']} epochs with evaluation), from the call to "
        'the results, compilation included (once for all learning rates of a row). "auto" measures vmap against one '
        'lane after another before it chooses, which costs a second compilation: on 128 trainings "map", which '
        "compiles one program, is ahead.",
        table(("program", "trainings per hour", "against one at a time"), rows),
    ]


def scan_speed(found: Results) -> list[str]:
    of = found["settings"]
    loop = "loop over the jitted function"
    rows = [
        (
            name,
            f"{median(one['seconds']):.1f}",
            f"{median(found['results'][loop]['seconds']) / median(one['seconds']):.2f}",
        )
        for name, one in found["results"].items()
    ]
    counted = [
        (
            f"{one['trainings']:,}",
            f"{median(one['scan_seconds']):.2f}",
            f"{median(one['loop_seconds']):.2f}",
            f"{median(one['loop_seconds']) / median(one['scan_seconds']):.2f}",
        )
        for one in found["by_count"]
    ]
    return [
        f"A training of one's own ({of['steps']} steps of Adam on a perceptron, learning rate and b1 as arguments) at "
        f"{of['settings']} settings with {of['seeds']} seeds each: seconds from the call to the results, compilation "
        f"included; medians of {of['rounds']} rounds. A ratio above 1 means faster than the loop.",
        table(("program", "seconds", "ratio"), rows),
        "The same by number of trainings, one seed.",
        table(("trainings", "gdlab.scan", loop, "ratio"), counted),
        f"A repeated scan of 16 settings with hardly any arithmetic takes "
        f"{1e3 * found['overhead']['warm_call_seconds']:.1f} ms.",
    ]


def gpu(found: Results) -> list[str]:
    def grid(title: str, by_program: dict[str, dict[str, float]]) -> str:
        columns = list(dict.fromkeys(name for row in by_program.values() for name in row))
        rows = [(name, *(figure(row.get(column)) for column in columns)) for name, row in by_program.items()]
        return table((title, *columns), rows)

    images, sweeps = (
        dict(found["resnet18_images_per_second"]),
        dict(found["ackley_adam_million_point_steps_per_second"]),
    )
    notes = images.pop("note"), sweeps.pop("note")
    turned = {case: {who: row[case] for who, row in images.items() if case in row} for case in images["gdlab"]}
    return [
        f"Images per second of ResNet18. {notes[0]}",
        grid("case", turned),
        f"Million steps of a point per second: Ackley, Adam, {notes[1]}.",
        grid("program", sweeps),
        found["note"],
    ]


def imports(found: Results) -> list[str]:
    rows = [(name, f"{seconds:.3f}") for name, seconds in found["median"].items()]
    return [
        "Seconds in a fresh process, medians. `gdlab` is the import alone, whose names are loaded when they are first "
        "used; `descent` and `sweep` are what these need, JAX and optax included; `help` is `gdlab --help`.",
        table(("what", "seconds"), rows),
    ]


def pages(found: Results) -> list[str]:
    """The size of pages, and how soon they are made, open and answer."""
    rows = [
        (
            name,
            f"{one['bytes'] / 1e6:.1f}",
            *(f"{one[key]:.1f}" for key in ("seconds", "opened")),
            ", ".join(f"{action}: {took:.0f}" for action, took in one["milliseconds"].items()),
        )
        for name, one in found["pages"].items()
    ]
    return [
        "Pages that open from disk: megabytes, seconds until they are made (once everything is imported) and until a "
        "browser has opened them, and the milliseconds from what a hand does to the frame that shows it, medians of "
        "nine. The paths are those of 27 settings from 16 starts over 200 steps.",
        table(("page", "MB", "made", "opened", "milliseconds"), rows),
    ]
