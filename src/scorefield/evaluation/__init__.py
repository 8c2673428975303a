"""Models and methods measured: samples, losses, likelihood and restorations on held-out images."""

from scorefield.evaluation.bits import Bits, bits_per_dimension
from scorefield.evaluation.compare import Comparison, ComparisonSettings, choose_levels, compare_models
from scorefield.evaluation.losses import Estimate, LossSettings, level_losses
from scorefield.evaluation.reference import Reference, choose_features, prepare
from scorefield.evaluation.report import Report, SampleSettings, evaluate, measure_samples

__all__ = [
    "Bits",
    "Comparison",
    "ComparisonSettings",
    "Estimate",
    "LossSettings",
    "Reference",
    "Report",
    "SampleSettings",
    "bits_per_dimension",
    "choose_features",
    "choose_levels",
    "compare_models",
    "evaluate",
    "level_losses",
    "measure_samples",
    "prepare",
]
