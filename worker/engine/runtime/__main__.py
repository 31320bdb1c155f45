"""`python -m worker.engine.runtime`: started by `process.py`, which writes the boot line."""

from worker.engine.runtime.load import load_model
from worker.engine.runtime.main import main

if __name__ == "__main__":
    main(load_model)
