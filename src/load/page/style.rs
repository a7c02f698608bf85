//! How the pages look.

/// Colours that programs are told apart by.
pub const COLOURS: usize = 8;

pub const CSS: &str = "\
:root { --paper: #fbfaf7; --card: #ffffff; --ink: #1d2127; --soft: #5d6672; --line: #dfe1e4; --faint: #eef0f2; --good: #0b6e4f;
  --c0: #0b6e8f; --c1: #c2571a; --c2: #3d8b37; --c3: #8a4fbf; --c4: #b3872b; --c5: #c23b6b; --c6: #4a6fd0; --c7: #6b6f76; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --card: #1c2026; --ink: #e8eaed; --soft: #9aa4b0;
  --line: #343b45; --faint: #262c34; --good: #62c79f; --c0: #4fb9dc; --c1: #f0935a; --c2: #7fca76; --c3: #bd92ea; --c4: #dcb658;
  --c5: #ee7ba4; --c6: #8aa8f5; --c7: #a8adb5; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif;
  font-variant-numeric: tabular-nums; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 18px 60px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 17px; margin: 0; }
p { margin: 4px 0; }
.soft, .unit, footer { color: var(--soft); }
.unit { margin-bottom: 14px; font-size: 13.5px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px; margin: 18px 0; }
.split { display: grid; grid-template-columns: minmax(0, 1fr); gap: 22px; }
@media (min-width: 960px) { .split { grid-template-columns: minmax(0, 1.15fr) minmax(0, 1fr); } }
.bars { display: grid; grid-template-columns: max-content minmax(60px, 1fr) max-content; gap: 9px 12px; align-items: center;
  align-content: start; }
.bars .name { font-weight: 600; overflow-wrap: anywhere; }
.bars svg { width: 100%; height: 24px; display: block; }
.bars .value { text-align: right; white-space: nowrap; line-height: 1.25; }
.bars .value small, td small { color: var(--soft); font-size: 12px; display: block; }
.bars .wide { grid-column: 1 / -1; color: var(--soft); font-size: 13px; margin-top: -4px; }
.user { opacity: 1; } .system { opacity: 0.55; }
.whisker { stroke: var(--ink); stroke-width: 1.4; vector-effect: non-scaling-stroke; }
.floor { stroke: var(--ink); stroke-width: 1.2; stroke-dasharray: 3 3; vector-effect: non-scaling-stroke; }
.curve { width: 100%; height: auto; display: block; }
.curve text { fill: var(--soft); font: 14px system-ui, sans-serif; }
.curve .grid { stroke: var(--line); } .curve path { fill: none; stroke-width: 2.4; stroke-linejoin: round; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 13px; margin: 0 0 6px; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 6px; vertical-align: -1px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { text-align: right; padding: 6px 10px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; color: var(--soft); }
tbody tr:last-child td { border-bottom: 0; }
td.ahead { color: var(--good); font-weight: 600; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 14px 22px; }
.facts b { display: block; font-size: 21px; letter-spacing: -0.01em; } .facts span { color: var(--soft); font-size: 13px; }
.notes { margin: 12px 0 0; padding: 10px 14px 10px 30px; background: var(--faint); border-radius: 8px; font-size: 13.5px; }
.notes li { overflow-wrap: anywhere; }
@media (max-width: 520px) { main { padding: 18px 10px 40px; } .card { padding: 14px 12px; } h1 { font-size: 21px; }
  .bars { grid-template-columns: max-content minmax(40px, 1fr) max-content; gap: 9px 8px; font-size: 13.5px; } }
";
