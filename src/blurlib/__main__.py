"""`python -m blurlib` is the command `blurlib`."""

from .cli import main

if __name__ == "__main__":
    main()
