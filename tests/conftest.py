"""Tests share two cores with each other: one thread each, and no deadline for an example."""

import hypothesis
import torch

torch.set_num_threads(1)
hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")
