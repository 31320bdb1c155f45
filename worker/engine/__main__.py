"""`python -m worker.engine`: started by `process.py`, which writes the boot line."""

from worker.engine.load import load_model
from worker.engine.main import main

if __name__ == "__main__":
    main(load_model)
