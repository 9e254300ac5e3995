"""Speed at equal accuracy, against peers, in one run: ``python -m benchmarks``."""
