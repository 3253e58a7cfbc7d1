"""Networks as pairs of pure functions; Flax stays behind them."""

from gdlab.models.capsnet import CapsuleInputs, CapsuleOutputs, capsnet
from gdlab.models.lstm import Memory, lstm
from gdlab.models.mlp import mlp
from gdlab.models.model import Model
from gdlab.models.pretrained import load_torchvision
from gdlab.models.resnet import resnet18
from gdlab.models.vae import VaeOutputs, vae, vae_decode, vae_encode
from gdlab.models.vgg import vgg16
from gdlab.models.wide_resnet import wide_resnet

__all__ = [
    "CapsuleInputs",
    "CapsuleOutputs",
    "Memory",
    "Model",
    "VaeOutputs",
    "capsnet",
    "load_torchvision",
    "lstm",
    "mlp",
    "resnet18",
    "vae",
    "vae_decode",
    "vae_encode",
    "vgg16",
    "wide_resnet",
]
