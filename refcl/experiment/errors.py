"""What a study says when it cannot go on.

In:  a reason.  Out: one line for a person, which the command line prints before it exits with status 2.
"""


class StudyError(Exception):
    """A study cannot start or go on; the message is one line that says what came and what to do."""
