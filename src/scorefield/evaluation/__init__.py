"""How good is it? Images and features in, numbers out; nothing here knows a model."""

from scorefield.metrics.classifier import Classifier, train_classifier
from scorefield.metrics.distances import (
    energy_distance,
    frechet_distance,
    frechet_from_statistics,
    inception_score,
    kernel_distance,
    moments,
)
from scorefield.metrics.features import (
    ClassifierFeatures,
    Extracted,
    Features,
    RandomFeatures,
    ScriptFeatures,
    classifier_features,
    load_features,
    random_features,
)
from scorefield.metrics.fidelity import ms_ssim, psnr, ssim
from scorefield.metrics.inception import InceptionFeatures, inception_features
from scorefield.metrics.intervals import Interval, bootstrap, jackknife
from scorefield.metrics.lpips import LPIPS, read_lpips
from scorefield.metrics.mobilenet import MobileNetFeatures, mobilenet_features
from scorefield.metrics.neighbours import nearest
from scorefield.metrics.perceptual import agreement, feature_distance

__all__ = [
    "LPIPS",
    "Classifier",
    "ClassifierFeatures",
    "Extracted",
    "Features",
    "InceptionFeatures",
    "Interval",
    "MobileNetFeatures",
    "RandomFeatures",
    "ScriptFeatures",
    "agreement",
    "bootstrap",
    "classifier_features",
    "energy_distance",
    "feature_distance",
    "frechet_distance",
    "frechet_from_statistics",
    "inception_features",
    "inception_score",
    "jackknife",
    "kernel_distance",
    "load_features",
    "mobilenet_features",
    "moments",
    "ms_ssim",
    "nearest",
    "psnr",
    "random_features",
    "read_lpips",
    "ssim",
    "train_classifier",
]
