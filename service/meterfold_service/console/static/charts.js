"use strict";
// Charts are drawn from the table beside them, so that both have the same numbers.
(() => {
  const charts = new Map();
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const LOWEST = 140;

  const rowsOf = (table) =>
    [...table.tBodies[0].rows]
      .filter((row) => row.dataset.x !== undefined)
      .map((row) => ({
        x: Number(row.dataset.x),
        y: row.dataset.y === "" || row.dataset.y === undefined ? null : Number(row.dataset.y),
        series: row.dataset.series ?? "",
        label: row.dataset.label ?? "",
      }));

  // The largest series, as many as the page says; uPlot needs a y for each x of each of them.
  const pivot = (rows, most) => {
    const xs = [...new Set(rows.map((row) => row.x))].sort((a, b) => a - b);
    const place = new Map(xs.map((x, index) => [x, index]));
    const series = new Map();
    for (const row of rows) {
      if (!series.has(row.series)) series.set(row.series, { name: row.series, sum: 0, ys: xs.map(() => null) });
      const one = series.get(row.series);
      one.ys[place.get(row.x)] = row.y;
      one.sum += Math.abs(row.y ?? 0);
    }
    const kept = [...series.values()].sort((a, b) => b.sum - a.sum).slice(0, most);
    return { xs, kept, labels: new Map(rows.map((row) => [row.x, row.label])) };
  };

  const short = (value) => {
    const size = Math.abs(value);
    for (const [unit, name] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
      if (size >= unit) return `${+(value / unit).toFixed(1)}${name}`;
    }
    return `${+value.toFixed(2)}`;
  };

  // The legend stands below the plot and takes its height from it.
  const roomForLegend = (chart) => {
    const legend = chart.root.querySelector(".u-legend")?.offsetHeight ?? 0;
    if (legend) chart.setSize({ width: chart.width, height: Math.max(LOWEST, chart.height - legend) });
  };

  const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 19);

  const options = (place, table, data) => {
    const isBars = place.dataset.kind === "bars";
    const many = data.kept.length > 1;
    const axis = { stroke: color("--muted"), font: "12px system-ui, sans-serif", grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
    const xs = data.xs;
    return {
      width: Math.max(place.clientWidth, 240),
      height: place.clientHeight,
      padding: [null, 48, null, null], // half of the longest label, which the last bar has in its middle
      cursor: { y: false, points: { size: 6 } },
      legend: { show: many, live: false },
      hooks: { ready: [(chart) => queueMicrotask(() => roomForLegend(chart))] }, // not while it is still being drawn
      scales: {
        x: isBars ? { time: false, distr: 2, range: (u, from, to) => [from - 0.6, (xs.length > 1 ? to : from) + 0.6] } : { time: false, range: (u, from, to) => [Math.min(from ?? 0, (to ?? 0) - 60), to ?? 1] },
        y: { range: (u, from, to) => [Math.min(0, from ?? 0), Math.max(to ?? 0, 1) * 1.08] },
      },
      axes: [
        {
          ...axis,
          grid: { show: false },
          size: 28,
          space: isBars ? 88 : 96,
          values: (u, splits) =>
            splits.map((split) => (isBars ? (data.labels.get(xs[Math.round(split)] ?? split) ?? data.labels.get(split) ?? "") : clock(split))),
        },
        { ...axis, size: 56, values: (u, splits) => splits.map(short) },
      ],
      series: [
        {},
        ...data.kept.map((one, index) => ({
          label: one.name || "total",
          stroke: color(`--series-${index + 1}`),
          width: isBars && !many ? 0 : 2,
          fill: isBars && !many ? color("--series-1") : isBars ? undefined : color("--series-soft"),
          paths: isBars && !many ? uPlot.paths.bars({ size: [0.72, 64], radius: 0.12 }) : undefined,
          points: { show: many && xs.length < 60 },
          spanGaps: true,
        })),
      ],
    };
  };

  const draw = (place) => {
    const table = document.getElementById(place.dataset.chart);
    if (!table) return;
    charts.get(place)?.destroy();
    place.replaceChildren();
    const data = pivot(rowsOf(table), Number(place.dataset.most));
    if (!data.xs.length && place.dataset.kind === "bars") return;
    charts.set(place, new uPlot(options(place, table, data), [data.xs, ...data.kept.map((one) => one.ys)], place));
  };

  const drawAll = () => document.querySelectorAll("[data-chart]").forEach(draw);

  // A live value: a row of the table first, then the chart again from the table.
  document.addEventListener("point", ({ detail }) => {
    const body = detail.table.tBodies[0];
    const row = body.insertRow();
    row.dataset.x = detail.x;
    row.dataset.y = detail.y;
    for (const text of [detail.clock, detail.text]) {
      const cell = row.insertCell();
      cell.className = "num";
      cell.textContent = text;
    }
    while (body.rows.length > Number(detail.table.dataset.keep)) body.deleteRow(0);
    for (const place of document.querySelectorAll(`[data-chart="${detail.table.id}"]`)) {
      const data = pivot(rowsOf(detail.table), Number(place.dataset.most));
      const chart = charts.get(place);
      if (!chart || chart.series.length !== data.kept.length + 1) draw(place);
      else chart.setData([data.xs, ...data.kept.map((one) => one.ys)]);
    }
  });

  addEventListener("DOMContentLoaded", () => {
    drawAll();
    let width = innerWidth;
    addEventListener("resize", () => {
      if (innerWidth === width) return;
      width = innerWidth;
      drawAll();
    });
  });
  document.addEventListener("theme", drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
})();
