"""Exercises: gaps to fill, in the order of the walk, with hints, solutions and judges.

In:  ``NN-name.md`` beside this file: question, gap, hints, solution, typical wrong answers and what to say to them.
Out: `Exercise`; `judge` says whether an answer is right and, if not, what is wrong with it.

>>> from refcl.oracle.exercises import exercises
>>> exercises()[0].title
'The gradient of a mean'
"""

from refcl.oracle.exercises.judge import Judgement, judge
from refcl.oracle.exercises.text import Exercise, Wrong, exercise, exercises

__all__ = ["Exercise", "Judgement", "Wrong", "exercise", "exercises", "judge"]
