"""How alike two images look to a network: distances of features, and whether it sees the same class.

The perceptual distance of Palette is the Euclidean distance of InceptionV1's last features (Saharia et al.
2022, App. C); on other features it is another number and is named after them, as in PD[mobilenet-b035]. Their
classification accuracy asks whether a classifier finds the image's label; where images have none, the
agreement asks whether it finds what it finds in the original.

References:
    Saharia et al. (2022), §4 and App. C. https://arxiv.org/abs/2111.05826
"""

from torch import Tensor

from scorefield.errors import UserError


def feature_distance(a: Tensor, b: Tensor) -> Tensor:
    """‖φ(a) − φ(b)‖ of each pair, (N,), float32.

    Args:
        a: features, (N, D).
        b: likewise.

    Raises:
        UserError: features that do not pair.
    """
    if a.shape != b.shape or a.ndim != 2:
        raise UserError("features", f"{tuple(a.shape)} and {tuple(b.shape)} do not pair.")
    return (a.float() - b.float()).square().sum(1).sqrt()


def agreement(probabilities: Tensor, of_originals: Tensor) -> Tensor:
    """1 where the likeliest class of an image is that of its original, else 0; (N,), float32.

    Args:
        probabilities: (N, K).
        of_originals: likewise.
    """
    return accuracy(probabilities, of_originals.argmax(1))


def accuracy(probabilities: Tensor, labels: Tensor) -> Tensor:
    """1 where the likeliest class is the label, else 0; (N,), float32.

    Args:
        probabilities: (N, K).
        labels: (N,), integers.

    Raises:
        UserError: not one label for each image.
    """
    if labels.shape != (len(probabilities),):
        raise UserError("labels", f"{tuple(labels.shape)} for {len(probabilities)} images.")
    return (probabilities.argmax(1) == labels).float()
