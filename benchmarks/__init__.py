"""Speed at equal accuracy, against peers, in one run on one machine: ``python -m benchmarks``."""
