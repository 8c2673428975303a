"""Images in, images out: files of any kind become uint8 tensors, and tensors become images."""

from scorefield.data.batches import Batches
from scorefield.data.crops import Pair, RandomCrops, open_crops, read_pairs
from scorefield.data.datasets import held_out, known_data, open_images, splits
from scorefield.data.folder import list_images
from scorefield.data.grids import grid, save_animation, save_image, save_images
from scorefield.data.image import fit, read_image, to_float, to_pil, to_tensor, to_uint8
from scorefield.data.image_set import ImageSet, Skipped
from scorefield.data.pairwise import PairwiseDistances, pairwise_distances
from scorefield.data.photo import JPEGHeader, Photo, as_photo

__all__ = [
    "Batches",
    "ImageSet",
    "JPEGHeader",
    "Pair",
    "PairwiseDistances",
    "Photo",
    "RandomCrops",
    "Skipped",
    "as_photo",
    "fit",
    "grid",
    "held_out",
    "known_data",
    "list_images",
    "open_crops",
    "open_images",
    "pairwise_distances",
    "read_image",
    "read_pairs",
    "save_animation",
    "save_image",
    "save_images",
    "splits",
    "to_float",
    "to_pil",
    "to_tensor",
    "to_uint8",
]
