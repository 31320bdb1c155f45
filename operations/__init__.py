"""The operations of a person, one module each: no console and no HTTP. The command line presents the results."""
