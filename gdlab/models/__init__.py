"""Networks as pairs of pure functions; no other package of gdlab imports Flax."""

from gdlab.models.capsnet import CapsuleInputs, CapsuleOutputs, CapsuleSizes, capsnet
from gdlab.models.classifier import linear_head
from gdlab.models.lstm import Memory, lstm
from gdlab.models.mlp import mlp
from gdlab.models.model import Model
from gdlab.models.pretrained import load_torchvision
from gdlab.models.resnet import HEADS, STEMS, cifar_stem, imagenet_stem, resnet18, two_layer_head
from gdlab.models.vae import VaeOutputs, vae, vae_decode, vae_encode
from gdlab.models.vgg import vgg16
from gdlab.models.wide_resnet import wide_resnet

__all__ = [
    "HEADS",
    "STEMS",
    "CapsuleInputs",
    "CapsuleOutputs",
    "CapsuleSizes",
    "Memory",
    "Model",
    "VaeOutputs",
    "capsnet",
    "cifar_stem",
    "imagenet_stem",
    "linear_head",
    "load_torchvision",
    "lstm",
    "mlp",
    "resnet18",
    "two_layer_head",
    "vae",
    "vae_decode",
    "vae_encode",
    "vgg16",
    "wide_resnet",
]
