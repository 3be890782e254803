// Unpacks the page's content and draws the figures in the colours of the page, again when it turns light or dark.
(function () {
  "use strict";
  const canHover = matchMedia("(hover: hover)").matches;
  const root = document.documentElement;
  let figures = {};

  async function unpack(id) {
    const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  }

  function template() {
    const style = getComputedStyle(root);
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
        hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--rule"), font: { color: colour("--ink") }, align: "left", namelength: 30 },
        // Words over lines stay readable.
        annotationdefaults: { bgcolor: colour("--card") + "b0" },
        modebar: { color: colour("--faint"), activecolor: colour("--ink"), bgcolor: "rgba(0,0,0,0)" },
      },
    };
  }

  async function draw(plot) {
    if (plot.dataset.drawn) return;
    plot.dataset.drawn = "yes";
    const key = plot.dataset.figure;
    const figure = figures[key];
    const layout = Object.assign({}, figure.layout, { template: template(), autosize: true });
    await Plotly.newPlot(plot, figure.data, layout, {
      responsive: true, displaylogo: false, toImageButtonOptions: { format: "svg", filename: key },
      // A list of what there is, because the default one can send the chart elsewhere; none where nothing hovers, for
      // there it would cover the figure all the time.
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]], displayModeBar: canHover && "hover",
    });
    plot.on("plotly_click", function (event) {
      const point = event.points[0];
      if (point.data.type === "heatmap") return;
      const trial = Array.isArray(point.customdata) ? point.customdata[0] : point.customdata;
      const study = point.data.meta && point.data.meta.study !== undefined ? point.data.meta.study : Number(plot.dataset.study);
      if (Number.isInteger(trial)) zenopt.openTrial(study, trial);
    });
  }

  // One figure at a time, so that the page can be read and scrolled while the rest is drawn.
  async function drawAll(plots) {
    for (const plot of plots) {
      await draw(plot);
      await new Promise((resolve) => setTimeout(resolve));
    }
    root.dataset.drawn = String(document.querySelectorAll(".plot[data-drawn]").length);
  }

  const plotsIn = (place) => Array.from(place.querySelectorAll(".plot"));

  zenopt.save = function (blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  function savePicture(button) {
    const picture = button.closest("figure").querySelector("svg.zp").cloneNode(true);
    const style = document.createElementNS("http://www.w3.org/2000/svg", "style");
    style.textContent = document.getElementById("picture-style").textContent;
    picture.prepend(style);
    zenopt.save(new Blob([picture.outerHTML], { type: "image/svg+xml" }), button.dataset.save + ".svg");
  }

  async function copy(button) {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      // Pages opened from a file may not write to the clipboard everywhere: a person then copies what is selected.
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }

  document.addEventListener("click", function (event) {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.save) savePicture(button);
    else if ("copy" in button.dataset) copy(button);
  });

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", function () {
    plotsIn(document).forEach((plot) => plot.data && Plotly.relayout(plot, { template: template() }));
  });

  function openLinked() {
    const link = /^#(?:s(\d+)-)?trial-(\d+)$/.exec(location.hash);
    if (link) zenopt.openTrial(Number(link[1] || 0), Number(link[2]));
    // A study's details open when something in them is asked for.
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    const details = target && target.closest("details.study");
    if (details && !details.open) {
      details.open = true;
      target.scrollIntoView();
    }
  }

  (async function () {
    if (!("DecompressionStream" in window)) {
      document.getElementById("too-old").hidden = false;
      return;
    }
    const content = JSON.parse(await unpack("content"));
    figures = content.figures;
    zenopt.studies = content.studies;
    zenopt.makeTables();
    const script = document.createElement("script");
    script.textContent = await unpack("plotly");
    document.head.append(script);
    document.querySelectorAll("details.study").forEach((details) =>
      details.addEventListener("toggle", () => details.open && drawAll(plotsIn(details))));
    addEventListener("hashchange", openLinked);
    openLinked();
    await drawAll(plotsIn(document).filter((plot) => !plot.closest("details.study:not([open])")));
    root.dataset.ready = "yes";
  })();
})();
