"""The commands and their options. What a command needs is imported when it runs, so that help is immediate."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from gdlab.compute.interrupts import command
from gdlab.version import VERSION

app = tyro.extras.SubcommandApp()
data = tyro.extras.SubcommandApp()
app.command(data, name="data", help="Prepare data sets, and see which ones are there.")
board = tyro.extras.SubcommandApp()
app.command(board, name="board", help="Collect judgements, publish them as pages, and repeat them.")


@app.command(name="list")
def list_kind(
    kind: tyro.conf.Positional[
        Literal["optimizers", "wrappers", "functions", "matrices", "tasks", "data", "experiments"]
    ],
    /,
) -> None:
    """List what gdlab has of one kind, one line each.

    Args:
        kind: What to list.
    """
    from gdlab.cli.catalog import lines

    print("\n".join(lines(kind)))


@app.command(name="show")
def show(
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")],
    /,
    *,
    interactive: bool = False,
    backend: Literal["plotly", "vispy"] | None = None,
    save: Path | None = None,
) -> None:
    """Show what is known of one optimizer, wrapper, test function or task.

    Args:
        name: An optimizer, a wrapper, a test function or a task, such as adam.
        interactive: Open the surface of a test function, to turn it.
        backend: What draws the surface: plotly, on a page of the browser, or vispy, in a window. Default: plotly.
        save: Write the surface to this file instead, FILE.html (plotly) or FILE.png (vispy).
    """
    if not interactive:
        for option, value in (("backend", backend), ("save", save)):
            if value is not None:
                raise ValueError(f"{option}: expected --interactive beside it, got none")
        from gdlab.cli.pages import page

        print(page(name))
        return
    from gdlab.cli.surfaces import open_surface

    file = open_surface(name, backend, save)
    if file is not None:
        print(f"Written to {file}")


@app.command(name="explore")
def explore(
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FUNCTION")],
    /,
    *,
    optimizers: tuple[str, ...] = ("sgd", "momentum", "adam"),
    steps: int = 100,
    starts: int = 16,
    rates: tuple[float, float, int] = (1e-4, 1.0, 17),
    vary: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE,...")] = (),
    box: tuple[float, float] | None = None,
    save: Path | None = None,
) -> None:
    """Compute the paths of optimizers over their hyperparameters, and explore them on a page.

    Args:
        name: A test function, such as ackley.
        optimizers: Names of optimizers.
        steps: Steps of each path.
        starts: Number of starts.
        rates: The lowest and the highest learning rate, and how many there are.
        vary: Other arguments to sweep, such as momentum=0,0.9. Default: six values of momentum and of b1.
        box: The lower and the upper end of both coordinates. Default: the function's domain, or its middle.
        save: Write the page to this file instead of opening it, FILE.html.
    """
    from gdlab.cli.exploring import explore_function

    file = explore_function(name, optimizers, steps=steps, starts=starts, rates=rates, vary=vary, box=box, save=save)
    print(f"Written to {file}")


@app.command(name="check")
def check(
    target: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE.py:FACTORY")],
    /,
    *,
    steps: int = 20,
    skip: tuple[str, ...] = (),
) -> None:
    """Check that an optimizer in your own file keeps the contract; exit 0 if so, else 1.

    Args:
        target: FILE.py:FACTORY, the file and the function in it.
        steps: Steps of each run.
        skip: Checks to leave out, by the names that the report prints.
    """
    from gdlab.cli.pages import fitted
    from gdlab.cli.user_code import load_factory
    from gdlab.optimizers import check_contract

    report = check_contract(load_factory(target), steps=steps, skip=skip)
    print("\n".join(map(fitted, str(report).splitlines())))
    sys.exit(0 if report.ok else 1)


@app.command(name="judge")
def judge(
    target: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE.py:FACTORY")],
    /,
    *,
    against: tuple[str, ...] = ("adam", "momentum", "sgd"),
    budget: Annotated[str | None, tyro.conf.arg(metavar="DURATION")] = None,
    tier: Literal["quick", "standard", "gpu"] = "quick",
    out: Path | None = None,
    refresh: bool = False,
    json: bool = False,
) -> None:
    """Judge an optimizer in your own file: is it sound, what is it like, and is it better than others?

    Exit 0 if it was judged, 1 if it breaks the contract, 2 for bad input.

    Args:
        target: FILE.py:FACTORY, the file and the function in it. A mapping SPACE in the file states ranges to tune.
        against: Names of opponents.
        budget: A duration such as 10m, after which no network and no further seeds are begun. Default: no limit.
        tier: How much is computed. Quick takes about six minutes on two idle cores.
        out: Folder of what was found, and of what is kept to continue from. Default: runs/judge_FACTORY.
        refresh: Run the opponents here, rather than read their stored results.
        json: Print everything as JSON.
    """
    from gdlab.cli.judging import judge_file
    from gdlab.optimizers.contract.report import BrokenContractError

    try:
        status = judge_file(
            target, against=against, budget=budget, tier=tier, out=out, refresh=refresh, as_machine=json
        )
    except BrokenContractError as error:
        print(f"gdlab: {error}", file=sys.stderr)
        sys.exit(1)
    except (OSError, ValueError, TypeError, KeyError, ImportError, RuntimeError) as error:
        print(f"gdlab: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(status)


@app.command(name="report")
def report(
    places: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_FOLDER ...")],
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("report.html"),
    title: str = "",
) -> None:
    """Make one web page of results: judgements, studies, trainings, and datasets of sweeps and scans.

    Args:
        places: Files and folders: of a judgement, a study or a training, and datasets in NetCDF.
        out: The page, FILE.html.
        title: The title of the page. Default: the headings of its sections.
    """
    from gdlab.cli.reporting import report_places

    report_places(places, out, title)


@board.command(name="add")
def add_entry(judgement: tyro.conf.Positional[Path], /, *, board: Path = Path("board")) -> None:
    """Add a judgement, with its code, to the entries of a board.

    Args:
        judgement: The file judgement.json that gdlab judge wrote.
        board: Folder of the entries.
    """
    from gdlab.reporting import board as boards

    print(f"Written to {boards.add(judgement, board)}")


@board.command(name="build")
def build_site(
    *, board: Path = Path("board"), out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("site")
) -> None:
    """Write the pages of a board: one that compares all entries, and one for each entry.

    Args:
        board: Folder of the entries.
        out: Folder of the pages.
    """
    from gdlab.reporting import board as boards

    print(f"Written to {boards.build(board, out)}")


@board.command(name="verify")
def verify_entry(entry: tyro.conf.Positional[Path], /, *, folder: Path | None = None) -> None:
    """Run the code of an entry, and say which verdicts are beyond the intervals that it states.

    Exit 0 if the entry holds, 1 if not, 2 for bad input.

    Args:
        entry: The file of the entry. Its code is run.
        folder: Folder where results are kept, so that the same command continues after an interruption.
    """
    from gdlab.cli.reporting import verify

    sys.exit(verify(entry, folder))


@data.command(name="list")
def list_data(data_dir: Path | None = None) -> None:
    """Say where each data set was found, or where it was looked for.

    Args:
        data_dir: A folder to look in first.
    """
    from gdlab.cli.catalog import data_lines

    print("\n".join(data_lines(data_dir)))


@data.command(name="prepare")
def prepare_data(
    name: tyro.conf.Positional[str],
    /,
    *,
    archive: tuple[Path, ...] = (),
    data_dir: Path | None = None,
    any_checksum: bool = False,
) -> None:
    """Make the folder that gdlab.data.load reads from a data set's published archive, and read it once.

    Args:
        name: cifar10, cifar100, stl10, mnist or fashion_mnist.
        archive: The published files, or the folder that holds them. Without it they are downloaded.
        data_dir: Where the folder goes. Default: $GDLAB_DATA_DIR, or ~/tensorflow_datasets.
        any_checksum: Accept given archives whose checksum is not the published one.
    """
    from gdlab.data import load, prepare

    folder = prepare(name, archive, data_dir, any_checksum=any_checksum)
    found = load(name, data_dir)
    print(f"{folder}: {len(found.train.labels):,} + {len(found.test.labels):,} images of {len(found.classes)} classes")


def main() -> None:
    """Run the command line; an expected failure is one line and exit status 1."""
    if sys.argv[1:] == ["--version"]:
        print(VERSION)
        return
    with command("gdlab", OSError, ValueError, TypeError, KeyError, ImportError):
        try:
            app.cli(prog="gdlab", description="A laboratory for gradient-descent optimizers in JAX.")
        except BrokenPipeError:  # the reader, such as head, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
