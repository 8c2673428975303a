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
from scorefield.evaluation.inception import InceptionFeatures, inception_features
from scorefield.evaluation.neighbours import nearest

__all__ = [
    "Classifier",
    "ClassifierFeatures",
    "Extracted",
    "Features",
    "InceptionFeatures",
    "RandomFeatures",
    "ScriptFeatures",
    "classifier_features",
    "energy_distance",
    "frechet_distance",
    "frechet_from_statistics",
    "inception_features",
    "inception_score",
    "kernel_distance",
    "load_features",
    "moments",
    "nearest",
    "random_features",
    "train_classifier",
]
