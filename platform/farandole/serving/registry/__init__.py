"""MLflow's model registry: its models and versions, promotion, comparison, origin, and their bundles on this machine.

MLflow is imported when it is first asked: a bundle in a directory needs none.
"""

from farandole.serving.registry.card import ModelCardText, model_card
from farandole.serving.registry.comparison import ModelComparison, compare_models
from farandole.serving.registry.promotion import GateResult, Promotion, plan_promotion, promote
from farandole.serving.registry.steps import TraceStep
from farandole.serving.registry.tracing import trace_model
from farandole.serving.registry.versions import (
    ModelVersion,
    RegisteredModel,
    current_version,
    list_models,
    show_model,
)
from farandole.tracking.model_store.bundles import FetchedBundle, fetch, fetch_bundle
from farandole.tracking.model_store.reference import ModelReference, parse_model

__all__ = [
    "FetchedBundle",
    "GateResult",
    "ModelCardText",
    "ModelComparison",
    "ModelReference",
    "ModelVersion",
    "Promotion",
    "RegisteredModel",
    "TraceStep",
    "compare_models",
    "current_version",
    "fetch",
    "fetch_bundle",
    "list_models",
    "model_card",
    "parse_model",
    "plan_promotion",
    "promote",
    "show_model",
    "trace_model",
]
