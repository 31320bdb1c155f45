"""User operations, one module each; command line and gallery present them, so a module prints and serves none."""
