"""The version, which the files of restored images name."""

__version__ = "0.2.0"
