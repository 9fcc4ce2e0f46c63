"""`python -m forktree` is `forktree`."""

from .cli import main

if __name__ == "__main__":
    main()
