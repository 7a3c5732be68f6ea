"""How the report looks.

In:  nothing.  Out: one style sheet, for wide and for narrow screens; it asks for no font or picture from elsewhere.
"""

STYLESHEET = """\
:root { color-scheme: light; --ink: #222; --soft: #6b6b6b; --line: #e4e1da; --paper: #8a6d3b; }
* { box-sizing: border-box; }
body {
  margin: 0; background: #fdfcfa; color: var(--ink);
  font: 1.0625rem/1.6 "Iowan Old Style", "Palatino Linotype", Palatino, "Book Antiqua", Georgia, serif;
}
main { max-width: 56rem; margin: 0 auto; padding: 3.5rem 1.25rem 4rem; }
h1 { font-size: 2.3rem; font-weight: 500; line-height: 1.15; letter-spacing: -.01em; margin: 0 0 .8rem; }
h2 { font-size: 1.3rem; font-weight: 500; line-height: 1.3; margin: 0 0 .9rem; }
p { margin: 0 0 1rem; max-width: 42rem; }
.lead { font-size: 1.15rem; }
section { margin-top: 3.2rem; }
.note, figcaption { font-size: .92rem; line-height: 1.5; color: var(--soft); max-width: 42rem; }
.note { margin-top: .8rem; }
figure { margin: 0; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figure img { background: #fff; border: 1px solid var(--line); border-radius: 3px; padding: .8rem; }
figcaption { margin-top: .8rem; }
.wide { overflow-x: auto; }
table {
  border-collapse: collapse; width: 100%;
  font-size: .92rem; line-height: 1.35; font-variant-numeric: tabular-nums lining-nums;
}
table th, table td { padding: .38rem .7rem; white-space: nowrap; }
th { font-weight: 500; text-align: left; }
td, thead th { text-align: right; }
thead th { color: var(--soft); vertical-align: bottom; }
thead th[rowspan] { text-align: left; }
table thead tr:first-child:not(:last-child) th { padding-bottom: 0; }
table thead tr:first-child:not(:last-child) th[rowspan] { padding-bottom: .38rem; }
thead tr:last-child > *, thead th[rowspan] { border-bottom: 1px solid var(--ink); }
tbody th, tbody td { border-bottom: 1px solid var(--line); }
table th:first-child, table td:first-child { padding-left: 0; }
thead .paper, .paper { color: var(--paper); }
.spread { color: var(--soft); font-size: .85em; }
.words td, .words thead th { text-align: left; white-space: normal; }
.words tbody th { white-space: normal; min-width: 14rem; }
.words td:last-child { white-space: nowrap; }
.no { color: #b3261e; }
.yes { color: #2e6b4f; }
.close { color: var(--soft); }
dl {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .3rem 2rem;
  margin: 0; font-size: .92rem;
}
dl div {
  display: flex; justify-content: space-between; gap: 1rem;
  border-bottom: 1px solid var(--line); padding: .25rem 0;
}
dt { color: var(--soft); }
dd { margin: 0; text-align: right; overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  main { padding-top: 2rem; }
  h1 { font-size: 1.8rem; }
  section { margin-top: 2.4rem; }
  figure img { padding: .3rem; }
  .words thead { display: none; }
  .words tr { display: block; padding: .6rem 0; border-bottom: 1px solid var(--line); }
  .words tbody th, .words td { display: block; padding: .1rem 0; border: 0; min-width: 0; }
  .words td[data-label]::before { content: attr(data-label) ": "; color: var(--soft); }
}
@media print { section { break-inside: avoid; } }
"""
