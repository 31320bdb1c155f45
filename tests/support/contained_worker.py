"""The failpoint worker as process 1 of a new namespace: `python -m tests.support.contained_worker`."""

import os
import sys

#: Needs no root, where the system allows user namespaces.
NAMESPACE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")

if __name__ == "__main__":
    os.execvp(NAMESPACE[0], [*NAMESPACE, sys.executable, "-m", "tests.support.failpoint_worker"])
