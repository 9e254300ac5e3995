"""The look of the HTML reports: one small style sheet, for light and dark screens and for paper."""

from typing import Final

CSS: Final = """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --panel: #f6f7f9; --ink: #1f2430; --quiet: #6b7280; --grid: #dfe3e8;
  --good: #1a7f37; --warn: #b35900; --buy: #1a7f37; --sell: #c0321a; --bar: #4477aa40;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14171c; --panel: #1d2128; --ink: #e6e8eb; --quiet: #9aa3af; --grid: #333a44;
    --good: #4ac26b; --warn: #e8a33d; --buy: #4ac26b; --sell: #ff8a75; --bar: #6a9fd455;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem 1.5rem 4rem; max-width: 70rem; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .5rem; padding-bottom: .3rem; border-bottom: 1px solid var(--grid); }
p { margin: .4rem 0 .8rem; max-width: 48rem; }
.note, caption { color: var(--quiet); font-size: .87rem; text-align: left; }
.lead { color: var(--quiet); margin-top: .3rem; }
.badge {
  display: inline-block; margin-left: .6rem; padding: .1rem .6rem; border-radius: 1rem; font-size: .85rem;
  font-weight: 600; vertical-align: middle; color: var(--good); border: 1px solid currentColor;
}
.badge.warn { color: var(--warn); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: .7rem; margin: 1.4rem 0; }
.card { background: var(--panel); border-radius: .5rem; padding: .7rem .9rem; }
.card .name { color: var(--quiet); font-size: .82rem; }
.card .value { font-size: 1.3rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.card .remark { color: var(--quiet); font-size: .8rem; line-height: 1.35; overflow-wrap: anywhere; }
figure { margin: 1rem 0; }
figure svg { width: 100%; height: auto; display: block; color: var(--ink); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; min-width: 60%; }
th, td { padding: .28rem .8rem .28rem 0; text-align: left; white-space: nowrap; }
th { color: var(--quiet); font-weight: 600; border-bottom: 1px solid var(--grid); vertical-align: bottom; }
th.over { text-align: center; border-bottom: 0; padding: .28rem 0 0; color: var(--ink); }
table.dense th, table.dense td { padding-right: .45rem; }
table.dense .n { padding-left: .45rem; }
th.n { white-space: normal; max-width: 7.5rem; }
td { border-bottom: 1px solid var(--grid); }
.n { text-align: right; padding-left: .8rem; }
tr.total td { font-weight: 600; border-top: 2px solid var(--grid); border-bottom: 0; }
tr.rest td, tr.free td { color: var(--quiet); }
td.bar { background: linear-gradient(var(--bar), var(--bar)) no-repeat left center / var(--part) 70%; }
.buy { color: var(--buy); } .sell { color: var(--sell); }
pre {
  background: var(--panel); padding: .9rem; border-radius: .5rem; overflow-x: auto; font-size: .82rem; line-height: 1.4;
}
summary { cursor: pointer; color: var(--quiet); }
h3 { font-size: .95rem; margin: 1.4rem 0 .3rem; }
figcaption { color: var(--quiet); font-size: .82rem; margin-top: .1rem; max-width: 48rem; }
.contents { font-size: .85rem; line-height: 1.9; margin: .8rem 0 0; }
.contents a { color: var(--quiet); margin-right: 1rem; white-space: nowrap; text-decoration-color: var(--grid); }
.chart { width: 100%; }
.good { color: var(--good); } .bad { color: var(--warn); font-weight: 600; }
td.wrap { white-space: normal; min-width: 11rem; max-width: 44rem; }
@media print {
  :root {
    color-scheme: light;
    --ground: #ffffff; --panel: #f6f7f9; --ink: #1f2430; --quiet: #6b7280; --grid: #dfe3e8;
    --good: #1a7f37; --warn: #b35900; --buy: #1a7f37; --sell: #c0321a; --bar: #4477aa40;
  }
  body { max-width: none; padding: 0; font-size: 11px; } h2, h3 { break-after: avoid; }
  figure, .card, tr { break-inside: avoid; } .contents, .modebar { display: none; } .scroll { overflow: visible; }
  th, td { white-space: normal; } td.wrap { min-width: 5rem; }
}
"""

PAGE_SCRIPT: Final = """
(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("chart-data").textContent);
  const config = {displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"]};
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const light = {ink: "#1f2430", quiet: "#6b7280", grid: "#dfe3e8", panel: "#f6f7f9"};
  function colours(paper) {
    if (paper) return light;
    const style = getComputedStyle(document.documentElement);
    const role = (name) => style.getPropertyValue("--" + name).trim();
    return {ink: role("ink"), quiet: role("quiet"), grid: role("grid"), panel: role("panel")};
  }
  function themed(layout, c) {
    const change = {"font.color": c.ink, "hoverlabel.bgcolor": c.panel, "hoverlabel.font.color": c.ink,
      "modebar.color": c.quiet, "modebar.activecolor": c.ink};
    for (const name of Object.keys(layout)) {
      if (!/^[xy]axis[0-9]*$/.test(name)) continue;
      change[name + ".gridcolor"] = c.grid;
      change[name + ".zerolinecolor"] = c.quiet;
      change[name + ".tickfont.color"] = c.quiet;
      change[name + ".title.font.color"] = c.quiet;
    }
    return change;
  }
  function each(act) {
    for (const name of Object.keys(data.charts)) act(document.getElementById("chart-" + name), data.charts[name]);
  }
  for (const chart of Object.values(data.charts)) {
    for (const trace of chart.data) {
      for (const axis of ["x", "y"]) {
        if (trace[axis] && trace[axis].shared !== undefined) trace[axis] = data.shared[trace[axis].shared];
      }
    }
  }
  each(function (box, chart) {
    Plotly.newPlot(box, chart.data, chart.layout, config);
    Plotly.relayout(box, themed(chart.layout, colours(false)));
  });
  dark.addEventListener("change", function () {
    each(function (box, chart) { Plotly.relayout(box, themed(chart.layout, colours(false))); });
  });
  window.addEventListener("beforeprint", function () {
    each(function (box, chart) {
      Plotly.relayout(box, Object.assign({width: 700, autosize: false}, themed(chart.layout, colours(true))));
    });
  });
  window.addEventListener("afterprint", function () {
    each(function (box, chart) {
      Plotly.relayout(box, Object.assign({width: null, autosize: true}, themed(chart.layout, colours(false))));
    });
  });
})();
"""
