"""Image files of every kind that people have, each with its right result.

`python -m tests.corpus DIR` writes the files to a directory. Code makes the files: nothing binary is committed.
`table.CASES` has one line per file; `docs/images.md` is made from the same table.
"""
