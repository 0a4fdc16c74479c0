"""What a URL says: ``files:///folder?timeout=…&fsync=…&waste=…``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from taskq.clock import Seconds
from taskq.errors import ImproperlyConfigured
from taskq.url import Url


@dataclass(frozen=True, slots=True)
class Options:
    """A URL of this backend, checked."""

    folder: Path
    """Of the namespace; in the folder of the URL."""
    timeout: Seconds = 5.0
    """How long a call waits for the lock."""
    fsync: bool = True
    """Whether what was accepted survives a power cut."""
    waste: int = 1 << 20
    """Bytes by which the journal may exceed three times what it has to hold."""

    @classmethod
    def of(cls, url: Url) -> Self:
        """Read a URL.

        Raises:
            ImproperlyConfigured: it names no folder, or an option is wrong.
        """
        if url.driver or url.username or url.host or url.port is not None:
            raise ImproperlyConfigured(
                "a files URL has three slashes and no host; write files:///absolute/folder"
            )
        if not url.path.strip("/") or "\0" in url.path:
            raise ImproperlyConfigured("the URL names no folder; write files:///absolute/folder")
        options = url.options(timeout=float, fsync=bool, waste=int)
        if min(options.get("timeout", 0.0), options.get("waste", 0)) < 0:
            raise ImproperlyConfigured("URL options timeout and waste cannot be below 0")
        # A namespace may be called "..", which alone would lead out of the folder. The
        # lock is known by its path, so two spellings of one path have to become one.
        folder = Path(url.path).resolve() / f"{url.namespace}.taskq"
        return cls(folder, **options)
