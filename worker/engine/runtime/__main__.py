"""`python -m worker.engine.runtime`: started by `EngineProcess`, which writes the `StartRequest`."""

from worker.engine.runtime.main import load_model, main

if __name__ == "__main__":
    main(load_model)
