// Draws the figures of the report in the colours of the page, and again when the page changes between light and dark.
(function () {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const canHover = matchMedia("(hover: hover)").matches;
  const plots = Array.from(document.querySelectorAll(".plot"));

  function template() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = {
      gridcolor: colour("--grid"), zerolinecolor: colour("--grid"), linecolor: colour("--rule"),
      tickfont: { size: 11 }, title: { font: { size: 12 } },
    };
    return {
      layout: {
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        font: { color: colour("--ink"), size: 12, family: getComputedStyle(document.body).fontFamily },
        xaxis: axis, yaxis: axis, legend: { font: { size: 11 } },
        hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--rule"), font: { color: colour("--ink") } },
        modebar: { color: colour("--faint"), activecolor: colour("--ink"), bgcolor: "rgba(0,0,0,0)" },
      },
    };
  }

  function draw(plot) {
    const key = plot.dataset.figure;
    const figure = figures[key];
    const layout = Object.assign({}, figure.layout, { template: template(), autosize: true });
    return Plotly.newPlot(plot, figure.data, layout, {
      responsive: true, displaylogo: false, toImageButtonOptions: { format: "svg", filename: key },
      // A list of what there is, because the default one can send the chart elsewhere; none where nothing hovers, for
      // there it would cover the figure all the time.
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]], displayModeBar: canHover && "hover",
    });
  }

  // One figure at a time, so that the page can be read and scrolled while the rest is drawn.
  (async function () {
    for (const plot of plots) {
      await draw(plot);
      await new Promise((resolve) => setTimeout(resolve));
    }
    document.documentElement.dataset.drawn = String(plots.length);
  })();

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", function () {
    plots.forEach((plot) => plot.data && Plotly.relayout(plot, { template: template() }));
  });

  document.addEventListener("click", function (event) {
    const button = event.target.closest("button[data-save]");
    if (!button) return;
    const picture = button.closest("figure").querySelector("svg.zp").cloneNode(true);
    const style = document.createElementNS("http://www.w3.org/2000/svg", "style");
    style.textContent = document.getElementById("picture-style").textContent;
    picture.prepend(style);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([picture.outerHTML], { type: "image/svg+xml" }));
    link.download = button.dataset.save + ".svg";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
})();
