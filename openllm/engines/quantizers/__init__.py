"""Scripts that run in the environment of the quantization tools, not in ours: they import nothing of us."""
