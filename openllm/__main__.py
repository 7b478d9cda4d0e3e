"""``python -m openllm``: the same as the command ``openllm``."""

from openllm.cli.main import main

if __name__ == "__main__":
    main()
