"""Every search method on the same data, model and training: `python -m benchmarks.quality --help`."""
