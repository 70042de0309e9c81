// Charts that can be read point by point, in the place of the pictures that need no script. They are drawn anew whenever
// the page comes again.
(() => {
  const drawn = [];
  const colours = ["--s0", "--s1", "--s2", "--s3"];
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const amount = (value, unit) => {
    if (value === null || value === undefined) return "–";
    if (unit === "bytes" || unit === "bytes/s") {
      const units = ["B", "KiB", "MiB", "GiB", "TiB"];
      let nth = 0;
      let rest = value;
      for (; rest >= 1024 && nth < units.length - 1; nth++) rest /= 1024;
      return `${nth === 0 ? Math.round(rest) : rest.toFixed(1)} ${units[nth]}${unit === "bytes/s" ? "/s" : ""}`;
    }
    const text = value === 0 || value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
    return unit === "1/s" ? `${text} /s` : `${text}${unit === "" ? "" : ` ${unit}`}`;
  };

  const clock = (at) => new Date(at * 1000).toISOString().slice(11, 19);

  const draw = (figure) => {
    const { lastMs, intervalMs, unit, series } = JSON.parse(figure.dataset.chart);
    const length = Math.max(...series.map(({ points }) => points.length));
    if (length < 2) return;
    const times = Array.from({ length }, (_, nth) => (lastMs - (length - 1 - nth) * intervalMs) / 1000);
    const padded = series.map(({ points }) => [...Array(length - points.length).fill(null), ...points]);
    const muted = css("--muted");
    const axis = {
      stroke: muted,
      grid: { stroke: css("--line"), width: 1 },
      ticks: { show: false },
      font: "11px sans-serif",
    };
    const options = {
      width: figure.clientWidth - 2 * parseFloat(getComputedStyle(figure).paddingLeft),
      height: 150,
      cursor: { sync: { key: "charts" }, y: false },
      scales: { y: { range: (_, _low, high) => [0, high > 0 ? high * 1.05 : 1] } },
      axes: [
        { ...axis, values: (_, values) => values.map(clock) },
        { ...axis, size: 62, values: (_, values) => values.map((value) => amount(value, unit)) },
      ],
      series: [
        { value: (_, at) => (at === null ? "–" : clock(at)), label: "UTC" },
        ...series.map(({ name }, nth) => ({
          label: name,
          stroke: css(colours[nth % colours.length]),
          width: 1.5,
          value: (_, value) => amount(value, unit),
        })),
      ],
    };
    const chart = new uPlot(options, [times, ...padded], figure.querySelector(".plot"));
    chart.setLegend({ idx: length - 1 });
    drawn.push(chart);
    figure.classList.add("drawn");
  };

  const drawAll = () => {
    for (const chart of drawn.splice(0)) chart.destroy();
    for (const figure of document.querySelectorAll("figure[data-chart]")) draw(figure);
  };
  document.addEventListener("DOMContentLoaded", drawAll);
  document.addEventListener("htmx:sse:after:message", drawAll);
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    drawAll();
  });
})();
