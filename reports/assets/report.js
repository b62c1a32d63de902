// Draws every chart of the page in the reader's theme, and again when the theme changes.
(() => {
  "use strict";
  const report = JSON.parse(document.getElementById("report-charts").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const views = new Map();

  async function embed(box, theme) {
    const key = box.dataset.chart;
    const spec = structuredClone(report.specs[key]);
    spec.datasets = report.datasets;
    const result = await vegaEmbed(box, spec, {
      mode: "vega-lite",
      renderer: "svg",
      config: report.themes[theme],
      tooltip: { theme },
      downloadFileName: key,
      actions: { export: true, source: false, compiled: false, editor: false },
    });
    const former = views.get(key);
    views.set(key, result);
    if (former) former.finalize();
  }

  async function draw(theme) {
    const boxes = [...document.querySelectorAll("[data-chart]")];
    await Promise.all(boxes.map((box) => embed(box, theme)));
    document.documentElement.dataset.charts = theme;
  }

  const current = () => (dark.matches ? "dark" : "light");
  dark.addEventListener("change", () => draw(current()));
  window.addEventListener("beforeprint", () => draw("light"));
  window.addEventListener("afterprint", () => draw(current()));
  draw(current());
})();
