"""Limits of this process that stand for a full disk."""

import contextlib
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def file_size(most: int) -> Iterator[None]:
    """Lets no file grow beyond so many bytes: writes fail, with EFBIG in place of ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
