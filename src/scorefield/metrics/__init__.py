"""Metrics: arrays in, numbers out. Nothing in this package knows a model."""

from scorefield.metrics.classifier import Classifier, train_classifier
from scorefield.metrics.confidence import ConfidenceInterval, bootstrap, jackknife
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
    NetworkFeatures,
    RandomFeatures,
    classifier_features,
    extract,
    load_features,
    metric_names,
    random_features,
)
from scorefield.metrics.fidelity import ms_ssim, psnr, ssim
from scorefield.metrics.inception import inception_features
from scorefield.metrics.lpips import LPIPS, read_lpips
from scorefield.metrics.mobilenet import mobilenet_features
from scorefield.metrics.neighbours import nearest
from scorefield.metrics.perceptual import accuracy, agreement, consecutive, feature_distance, first_with_rest

__all__ = [
    "LPIPS",
    "Classifier",
    "ClassifierFeatures",
    "ConfidenceInterval",
    "Extracted",
    "Features",
    "NetworkFeatures",
    "RandomFeatures",
    "accuracy",
    "agreement",
    "bootstrap",
    "classifier_features",
    "consecutive",
    "energy_distance",
    "extract",
    "feature_distance",
    "first_with_rest",
    "frechet_distance",
    "frechet_from_statistics",
    "inception_features",
    "inception_score",
    "jackknife",
    "kernel_distance",
    "load_features",
    "metric_names",
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
