"""`python -m dropline.cli`: the same as `dropline`."""

from dropline.cli.main import main

if __name__ == "__main__":
    main()
