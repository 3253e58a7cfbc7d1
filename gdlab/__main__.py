"""`python -m gdlab` is the command `gdlab`."""

from gdlab.cli import main

if __name__ == "__main__":
    main()
