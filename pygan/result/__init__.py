"""The results of a training run: its generator, samples, exported files, and evaluation."""

from pygan.result.generator import TrainedGenerator, load_generator

__all__ = ["TrainedGenerator", "load_generator"]
