"""Image files of every kind, each with the right result.

`python -m tests.corpus DIR` writes the files to a directory. Code makes the files; no binary file is committed.
`table.CASES` has one line per file; `docs/images.md` is made from the same table.
"""
