"""What a study says: claims with their evidence, tables, and one page.

In:  the records of a study and the arrays of its runs.  Out: ``report.html``, ``claims.json``, and a table for a
terminal. Read it in the order paper, resampling, claims, captions, page.
"""
