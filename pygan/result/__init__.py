"""What a training run leaves: its generator, samples, files for other programs, and numbers that judge it."""

from pygan.result.generator import TrainedGenerator, load_generator

__all__ = ["TrainedGenerator", "load_generator"]
