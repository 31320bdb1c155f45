"""Cloud Storage: the worker's `ObjectStore`, and the uploads of the command line.

`client` makes every client of the library, and `errors` names every error of the library.
"""
