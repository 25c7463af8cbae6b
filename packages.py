"""Versions of installed packages."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version(package: str) -> str | None:
    """Return the version of `package`; None where it is not installed, as in a checkout that is only imported."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
