"""The verbs that a person may use, one module each: no console and no HTTP."""
