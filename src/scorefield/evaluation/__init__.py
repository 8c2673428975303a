"""How good is it? Images and features in, numbers out; nothing here knows a model."""

from scorefield.evaluation.classifier import Classifier, train_classifier
from scorefield.evaluation.distances import (
    energy_distance,
    frechet_distance,
    frechet_from_statistics,
    inception_score,
    kernel_distance,
    moments,
)
from scorefield.evaluation.features import (
    ClassifierFeatures,
    Extracted,
    Features,
    RandomFeatures,
    ScriptFeatures,
    classifier_features,
    load_features,
    random_features,
)
from scorefield.evaluation.fidelity import ms_ssim, psnr, ssim
from scorefield.evaluation.inception import InceptionFeatures, inception_features
from scorefield.evaluation.intervals import Interval, bootstrap, jackknife
from scorefield.evaluation.lpips import LPIPS, read_lpips
from scorefield.evaluation.mobilenet import MobileNetFeatures, mobilenet_features
from scorefield.evaluation.neighbours import nearest
from scorefield.evaluation.perceptual import agreement, feature_distance

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
