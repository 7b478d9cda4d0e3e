"""Our server against its peers, on the same model and the same machine. Run as ``python -m benchmarks``."""
