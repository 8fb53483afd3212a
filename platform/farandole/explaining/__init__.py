"""Explanations of a model: of its features overall, of single predictions, and of its layers.

`Explainer(open_explained(bundle)).explain(batch)` explains predictions; `report.explain_model` explains a whole model.
"""

from farandole.explaining.attributions import Explainer, Explanation, TokenWeight
from farandole.explaining.model import ExplainedModel, open_explained, require_captum

__all__ = ["ExplainedModel", "Explainer", "Explanation", "TokenWeight", "open_explained", "require_captum"]
