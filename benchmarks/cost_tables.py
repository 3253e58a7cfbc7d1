"""The tables of what optimizers cost, for the page of results."""

from benchmarks.tables import Results
from gdlab.analysis.tables import Table

NETWORKS = ("resnet18", "gpt")


def costs(found: Results) -> list[str]:
    """What each optimizer costs: memory, gradients, time of a step, compilation."""
    rows = {(row["optimizer"], row["network"]): row for row in found["rows"]}

    def pair(name: str, key: str, form: str) -> list[str]:
        values = [rows[name, network].get(key) for network in NETWORKS]
        return ["" if value is None else format(value, form) for value in values]

    names = found["gradients_per_step"]
    slower = [name for name in names if min(rows[name, on].get("time_over_optax", 0.0) for on in NETWORKS) > 1.1]
    table = Table(
        (
            "optimizer",
            "bytes, ResNet18",
            "bytes, GPT",
            "gradients",
            "time over SGD's, ResNet18",
            "GPT",
            "over optax's, ResNet18",
            "GPT",
            "compile s, ResNet18",
            "GPT",
        ),
        [
            (
                name,
                *pair(name, "state_bytes_per_parameter", ".2f"),
                f"{gradients:.1f}",
                *pair(name, "time_over_sgd", ".1f"),
                *pair(name, "time_over_optax", ".2f"),
                *pair(name, "compile_seconds", ".1f"),
            )
            for name, gradients in found["gradients_per_step"].items()
        ],
    )
    return [
        "One step on the float32 parameters of ResNet18 for CIFAR-10 (11.2 million) and of a GPT with 4 layers of "
        "width 256 and 8,192 tokens (5.3 million), without the network. Bytes of state per parameter; gradients of a "
        "step, counted in 50 steps on Rosenbrock's function of 4 variables, where a product with a Hessian counts as "
        "two; time relative to optax's SGD in the same round, with the renewal of preconditioners, and to optax's "
        "own; seconds of compilation. SGD's step takes milliseconds, far less than a network's gradient, so a "
        "factor of 5 is hardly felt and one of 100 is. Optax's Muon leaves the kernels of convolutions to AdamW, and "
        "its GaLore has rank 128, where gdlab's has a quarter of the shorter side. There is no loss here, so methods "
        "that search along a line take their directions only.",
        table.markdown(),
        f"Slower than optax's by more than a tenth on both: {', '.join(slower) or 'none'}.",
    ]


def fused(found: Results) -> list[str]:
    """Simple optimizers beside optax's and PyTorch's."""
    others = list(found["rows"][0]["time_over"])
    table = Table(
        ("optimizer", "parameters of", "ms a step", *(f"time over {who}'s" for who in others)),
        [
            (
                row["optimizer"],
                row["network"],
                f"{1e3 * row['seconds_a_step']['ours']:.2f}",
                *(f"{row['time_over'][who]:.2f}" for who in others),
            )
            for row in found["rows"]
        ],
    )
    return [
        "One step of a jitted optimizer against optax's, and against PyTorch's fused, multi-tensor and plain ones. The "
        "fused ones read and write each array once; XLA computes each output in a pass of its own.",
        table.markdown(),
    ]
