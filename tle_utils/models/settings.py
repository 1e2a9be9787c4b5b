"""Settings of the networks: their plans, how they are trained, the presets; nothing here loads TensorFlow."""

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from tle_utils.base.errors import TLEError

HEADS = ("patient", "left")
"""Outputs of the multi-task network: probability of a patient, and of the left side given a patient."""

NETWORKS = {
    "figure_2": {"filters": (8, 16, 32), "pooled": 2, "total": 108_514, "trainable": 108_402, "n_classes": 2},
    "figure_9": {"filters": (8, 8, 16, 16, 32, 32), "pooled": 5, "total": 20_891, "trainable": 20_667, "n_classes": 3},
    "figure_9_pooled_twice": {"filters": (8, 8, 16, 16, 32, 32), "pooled": 2},
    "multitask": {"filters": (16, 32), "pooled": 2, "heads": HEADS},
}
"""Filters of the convolutions, and how many of them pooling follows: the paper's networks with their published counts,
the 6-layer CNN with the softmax layer of the 3-layer CNN, and the multi-task network with its two heads."""

BOOK = {"standardise": True, "scaled": True, "noise": 1.0, "learning_rate": 3e-4, "batch_size": 8}
LATER_STUDY = {"flip": False, "learning_rate": 0.01, "l2": 1e-4, "batch_size": 4}
LATER_STUDY |= {"patience": 15, "warm_up": 0, "keep": "val_accuracy"}
SIDES_COUNT_MORE = {"class_weights": {"control": 1.0, "left": 1.5, "right": 1.5}}
PRESETS = {
    "book": {
        "figure_2": BOOK,
        "figure_9": BOOK | SIDES_COUNT_MORE | {"l2": 1e-4, "dropout": 0.2, "warm_up": 20},
    },
    "paper": {
        "figure_2": {"flip": False},
        "figure_9": {"flip": False, "l2": 1e-4, "dropout": 0.3} | SIDES_COUNT_MORE,
    },
    "kaestner_rao_2023": {"figure_2": LATER_STUDY, "figure_9": LATER_STUDY},
}
"""Settings by preset and network; the chapter on methods says where they come from."""

Share = Annotated[float, Field(ge=0, lt=1)]


class Settings(BaseModel):
    """What both kinds of network are told; every field belongs to the key of the cache.

    Attributes
    ----------
    max_epochs : int
        Epochs at most.
    batch_size : int
        Participants per step.
    learning_rate : float
        Of Adam.
    l2, dropout, noise
        See `networks.build`.
    patience : int
        Training stops after as many epochs without a lower validation loss; the weights of the best epoch are kept.
    flip : bool
        Train on every training participant's mirror image too, with left and right swapped.
    standardise : bool
        Turn voxels into z-scores against the training part of the fold.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_epochs: PositiveInt = 60
    batch_size: PositiveInt = 8
    learning_rate: PositiveFloat = 1e-3
    l2: NonNegativeFloat = 0.0
    dropout: Share = 0.0
    noise: NonNegativeFloat = 0.0
    patience: PositiveInt = 10
    flip: bool = False
    standardise: bool = False


class Training(Settings):
    """How one of the paper's networks is trained.

    Attributes
    ----------
    network : {"figure_2", "figure_9", "figure_9_pooled_twice"}
        One of `NETWORKS`.
    scaled : bool
        See `networks.build`.
    warm_up : int
        Epochs before `patience` counts: with batch normalisation and few steps per epoch the first losses are erratic.
    keep : {"val_loss", "val_accuracy"}
        What is best in the epoch whose weights are kept.
    class_weights : dict of str to float, optional
        Multiplies the balanced weight of each class; None: every participant counts the same.
    smote : bool
        Fill up the smaller classes of the training part with mixtures of neighbours (SMOTE, Chawla et al. 2002).
    """

    network: Literal["figure_2", "figure_9", "figure_9_pooled_twice"]
    scaled: bool = False
    warm_up: NonNegativeInt = 5
    keep: Literal["val_loss", "val_accuracy"] = "val_loss"
    class_weights: dict[str, float] | None = None
    smote: bool = False


class MultitaskOptions(Settings):
    """How the multi-task network is built and trained; z-scores are those against the controls of the training part.

    Attributes
    ----------
    y_mm : tuple of int
        Slices, the input's last axis.
    mirror_difference : bool
        Give the network each slice less its mirror image as a further channel.
    voting : bool
        One network per slice; their probabilities are averaged with the weights that their validation earns.
    members : int
        Networks of the ensemble; they differ by chance alone, and the geometric mean of their probabilities is taken.
    stages : {1, 2}
        1: both heads learn together. 2: trunk and patient head first, then the side head alone on patients.
    """

    network: ClassVar[str] = "multitask"
    batch_size: PositiveInt = 16
    dropout: Share = 0.3
    l2: NonNegativeFloat = 1e-4
    y_mm: tuple[int, ...] = Field(default=(-24,), min_length=1)
    mirror_difference: bool = False
    voting: bool = False
    members: PositiveInt = 1
    stages: Literal[1, 2] = 1


class HemisphereOptions(BaseModel):
    """How the network of `hemispheres` is built and trained; chosen on latent volumes of phantoms with other seeds.

    Attributes
    ----------
    max_epochs, batch_size, learning_rate, patience
        As in `Settings`.
    filters : int
        What the trunk looks for in a block; 0: there is no trunk.
    l2 : float
        Weight of the squared-norm penalty on what the heads read, in regions without correlation.
    """

    model_config = Settings.model_config

    max_epochs: PositiveInt = 10
    batch_size: PositiveInt = 16
    learning_rate: PositiveFloat = 0.02
    patience: PositiveInt = 10
    filters: NonNegativeInt = 4
    l2: NonNegativeFloat = 0.1


def preset(name, network, *, max_epochs, classes, learning_rate=None):
    """Settings by name (`Training`).

    Parameters
    ----------
    name : {"book", "paper", "kaestner_rao_2023"}
        ``book``: chosen here by validation loss. ``paper``: what Rao states, Adam's defaults where the paper is silent.
        ``kaestner_rao_2023``: the published settings of the same author's later study.
    network : {"figure_2", "figure_9"}
        Which network.
    max_epochs : int
        Epochs at most.
    classes : collection of str
        Classes of the task; mirror images are used where both left and right are among them.
    learning_rate : float, optional
        Replaces that of the preset.
    """
    if name not in PRESETS:
        raise TLEError(f"preset '{name}' is not known: choose one of {', '.join(PRESETS)}")
    settings = {"flip": {"left", "right"} <= set(classes)} | PRESETS[name][network]
    if learning_rate is not None:
        settings["learning_rate"] = learning_rate
    return Training(network=network, max_epochs=max_epochs, **settings)


def published_counts(network):
    """The paper's ``total`` and ``trainable`` parameters of a network (dict of int; Figure 2 and Figure 9)."""
    return {name: NETWORKS[network][name] for name in ("total", "trainable")}


def parameter_counts_of(network, n_classes, input_shape=(160, 160, 1)):
    """``total`` and ``trainable`` parameters of a network that ends in a softmax layer, by arithmetic (dict of int).

    A 3 x 3 convolution has 9 weights per pair of channels and a bias per filter, a batch normalisation scale and offset
    per filter, and a mean and a variance that are not trained; pooling halves rows and columns.
    """
    filters, pooled = NETWORKS[network]["filters"], NETWORKS[network]["pooled"]
    rows, columns, channels = input_shape
    trainable = sum((9 * one + 3) * other for one, other in pairwise((channels, *filters)))
    trainable += ((rows >> pooled) * (columns >> pooled) * filters[-1] + 1) * n_classes
    return {"total": trainable + 2 * sum(filters), "trainable": trainable}
