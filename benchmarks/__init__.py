"""Speed and quality of the book beside their targets; see ``python -m benchmarks --help``."""
