"""The system call filter of a session: `program` builds or recalls it, `install` puts it in force."""

from sandbox.seccomp.cache import program
from sandbox.seccomp.loading import install

__all__ = ["install", "program"]
