"""Starts gangs through Horovod's own launcher, and supervises them."""

from farandole.launch.scaling import scale
from farandole.launch.supervisor import Trained, train

__all__ = ["Trained", "scale", "train"]
