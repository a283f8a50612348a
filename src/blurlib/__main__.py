"""`python -m blurlib` is the command `blurlib`."""

from ._cli.main import main

if __name__ == "__main__":
    main()
