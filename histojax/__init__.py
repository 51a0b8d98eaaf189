"""Research-grade classification of H&E histology images in JAX."""

__version__ = "0.1.0"
