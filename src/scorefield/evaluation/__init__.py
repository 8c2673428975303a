"""Models and methods measured: samples, losses, likelihood and restorations on held-out images."""

from scorefield.evaluation.bits import Bits, bits_per_dimension
from scorefield.evaluation.compare import Comparison, ComparisonSettings, choose_levels, compare_models
from scorefield.evaluation.level_losses import Estimate, LossSettings, level_losses
from scorefield.evaluation.reference import Reference, choose_features, prepare
from scorefield.evaluation.report import Report, SampleSettings, evaluate, measure_samples
from scorefield.evaluation.restoration import compare_restorations
from scorefield.evaluation.restoration_methods import ModelMethod, model_method
from scorefield.evaluation.tables import RestorationReport

__all__ = [
    "Bits",
    "Comparison",
    "ComparisonSettings",
    "Estimate",
    "LossSettings",
    "ModelMethod",
    "Reference",
    "Report",
    "RestorationReport",
    "SampleSettings",
    "bits_per_dimension",
    "choose_features",
    "choose_levels",
    "compare_models",
    "compare_restorations",
    "evaluate",
    "level_losses",
    "measure_samples",
    "model_method",
    "prepare",
]
