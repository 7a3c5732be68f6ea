"""Keeps pytest out: nothing in this folder is a test, and its modules import libraries that need not be there."""

collect_ignore_glob = ["*.py"]
