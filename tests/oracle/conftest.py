"""The cases are other people's code: tried by `test_outside`, not collected."""

collect_ignore = ["cases"]
