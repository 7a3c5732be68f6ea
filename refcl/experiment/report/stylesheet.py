"""How the report looks.

In:  nothing.  Out: one style sheet, for wide and for narrow screens; it asks for no font or picture from elsewhere.
"""

STYLESHEET = """\
:root {
  color-scheme: light dark;
  --ground: #fdfcfa; --ink: #222; --soft: #646464; --line: #e4e1da; --paper: #7d6130; --no: #b3261e; --yes: #2e6b4f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #16181a; --ink: #e6e4df; --soft: #a3a29e; --line: #34373a;
    --paper: #cdab6c; --no: #f2857b; --yes: #7cc7a1;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 1.0625rem/1.6 "Iowan Old Style", "Palatino Linotype", Palatino, "Book Antiqua", Georgia, serif;
}
main { max-width: 60rem; margin: 0 auto; padding: 3.5rem 1.25rem 4rem; }
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
table th, table td { padding: .38rem .58rem; white-space: nowrap; }
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
.words tbody th { white-space: normal; }
.wide:focus-visible { outline: 2px solid var(--paper); outline-offset: 3px; }
.words { table-layout: fixed; min-width: 44rem; }
.words thead th:nth-child(1) { width: 26%; }
.words thead th:nth-child(4) { width: 17%; }
.words thead th:nth-child(5) { width: 21%; }
.words .why { display: block; line-height: 1.3; }
.words td, .words th { vertical-align: top; }
.no { color: var(--no); }
.yes { color: var(--yes); }
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
.touch { border: 1px solid var(--line); border-radius: 3px; padding: .8rem; font-size: .92rem; }
.touch fieldset {
  display: inline-flex; flex-wrap: wrap; gap: .1rem .8rem; border: 0; margin: 0 1.5rem .4rem 0; padding: 0;
}
.touch legend { float: left; color: var(--soft); margin-right: .3rem; padding: 0; }
.touch .key { display: inline-block; width: .8em; height: .8em; border-radius: 50%; }
.touch .plane { display: block; width: 100%; max-width: 44rem; margin: 0 auto; }
.touch svg text { fill: var(--ink); font-size: 12px; text-anchor: middle; }
.touch svg text.end { text-anchor: end; }
.touch svg text.tiny { font-size: 9px; text-anchor: start; }
.touch .axes, .touch .trace { fill: none; stroke: var(--soft); }
.touch .run { cursor: pointer; }
.touch .run:focus-visible { outline: none; stroke: var(--ink); stroke-width: 3; }
.touch .summary { margin: .6rem 0 0; min-height: 3.2em; }
@media (max-width: 40rem) {
  main { padding-top: 2rem; }
  h1 { font-size: 1.8rem; }
  section { margin-top: 2.4rem; }
  figure img { padding: .3rem; }
  .words { min-width: 0; }
  .words thead { display: none; }
  .words tr { display: block; padding: .6rem 0; border-bottom: 1px solid var(--line); }
  .words tbody th, .words td { display: block; padding: .1rem 0; border: 0; min-width: 0; }
  .words td[data-label]::before { content: attr(data-label) ": "; color: var(--soft); }
}
@media (prefers-color-scheme: dark) {
  /* Light and dark change places, and the hues come back: one picture serves both. */
  figure img { filter: invert(.92) hue-rotate(180deg); border-color: #c8c5c2; }
}
@media print { section { break-inside: avoid; } }
"""
