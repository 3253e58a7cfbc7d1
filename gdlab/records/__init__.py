"""Results on disk: atomic files, folders of runs, checkpoints, blocks of a sweep, and the environment of a run."""

from gdlab.records.blocks import Blocks
from gdlab.records.checkpoints import CheckpointError, load_note, load_tree, save_tree
from gdlab.records.environment import environment
from gdlab.records.files import (
    atomic_path,
    read_json,
    read_lines,
    require_folder,
    staged_folder,
    to_json,
    write_json,
    write_lines,
)
from gdlab.records.manifest import AnotherRunError
from gdlab.records.runs import RunFolder, RunRecord, read_checkpoint, read_run

__all__ = [
    "AnotherRunError",
    "Blocks",
    "CheckpointError",
    "RunFolder",
    "RunRecord",
    "atomic_path",
    "environment",
    "load_note",
    "load_tree",
    "read_checkpoint",
    "read_json",
    "read_lines",
    "read_run",
    "require_folder",
    "save_tree",
    "staged_folder",
    "to_json",
    "write_json",
    "write_lines",
]
