"""Pages to look at: one HTML document each, without scripts, that needs nothing from anywhere else."""

from farandole.pages.dataset import dataset_page
from farandole.pages.page import Page

__all__ = ["Page", "dataset_page"]
