"""M³PC on Ray: test-time model-predictive control with a pretrained masked trajectory model."""

__version__ = "0.1.0"
