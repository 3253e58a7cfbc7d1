"""Networks as pairs of pure functions; Flax stays behind them."""

from gdlab.models.mlp import mlp
from gdlab.models.model import Model
from gdlab.models.pretrained import load_torchvision
from gdlab.models.resnet import resnet18

__all__ = ["Model", "load_torchvision", "mlp", "resnet18"]
