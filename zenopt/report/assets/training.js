// Draws the figures of a training report in the colours of the page, and again when the page changes its colours.
(function () {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const plots = Array.from(document.querySelectorAll(".plot"));
  const canHover = matchMedia("(hover: hover)").matches;

  function template() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = {
      gridcolor: colour("--grid"), zerolinecolor: colour("--grid"), linecolor: colour("--rule"),
      tickfont: { size: 11 }, title: { font: { size: 12 } },
    };
    const card = colour("--card"), ink = colour("--ink");
    return {
      layout: {
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        font: { color: ink, size: 12, family: getComputedStyle(document.body).fontFamily },
        xaxis: axis, yaxis: axis, legend: { font: { size: 11 } },
        hoverlabel: { bgcolor: card, bordercolor: colour("--rule"), font: { color: ink } },
      },
      // A share of nothing looks like the page, one of all like a strong blue, in the light and in the dark.
      data: { heatmap: [{ colorscale: [[0, card], [1, colour("--link")]], colorbar: { outlinewidth: 0 } }] },
    };
  }

  async function drawAll() {
    for (const plot of plots) {
      const figure = figures[plot.dataset.figure];
      const layout = Object.assign({}, figure.layout, { template: template(), autosize: true });
      await Plotly.react(plot, figure.data, layout, {
        responsive: true, displaylogo: false, displayModeBar: canHover && "hover",
        toImageButtonOptions: { format: "svg", filename: plot.dataset.figure },
        modeBarButtons: [["toImage", "zoom2d", "resetScale2d"]],
      });
    }
    document.documentElement.dataset.drawn = String(plots.length);
  }

  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
})();
