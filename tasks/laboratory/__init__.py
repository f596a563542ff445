"""How well do astronomy libraries agree?  The experiments that this project runs itself."""

from __future__ import annotations

from tasks.experiment import Experiment
from tasks.laboratory.frame_rotation_bpn import FrameRotationBpn
from tasks.laboratory.gmst_era import GmstEra

EXPERIMENTS: tuple[type[Experiment], ...] = (FrameRotationBpn, GmstEra)
