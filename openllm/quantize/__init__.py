"""Makes quantized checkpoints where none is published."""
