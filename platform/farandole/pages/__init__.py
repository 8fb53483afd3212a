"""Self-contained HTML reports without scripts or external resources."""

from farandole.pages.dataset import dataset_page
from farandole.pages.page import Page

__all__ = ["Page", "dataset_page"]
