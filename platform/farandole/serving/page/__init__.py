"""The page of the service: the model, its card and lineage, a form, and predictions with explanations.

Everything comes from the service itself: the page loads nothing from elsewhere, and works without network.
"""

from farandole.serving.page.card import render_card
from farandole.serving.page.fields import FormField, form_fields
from farandole.serving.page.routes import MODEL_PATH, PUBLIC_PATHS, SECURITY_HEADERS, page_routes
from farandole.serving.page.shown_model import ShownModel

__all__ = [
    "MODEL_PATH",
    "PUBLIC_PATHS",
    "SECURITY_HEADERS",
    "FormField",
    "ShownModel",
    "form_fields",
    "page_routes",
    "render_card",
]
