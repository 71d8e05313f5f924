"""What every claim about speed, memory and quality comes from; each file is a script, `benchmarks.quality` a package."""
