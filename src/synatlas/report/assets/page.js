"use strict";
// Inflates plotly.js, then draws every figure that is shown. Nothing here reaches the network.
(() => {
  const CONFIG = {
    responsive: true,
    displaylogo: false,
    typesetMath: false,
    // plotly offers to send figures to its servers unless told otherwise.
    showSendToCloud: false,
    plotlyServerURL: "",
    modeBarButtons: [["toImage"], ["zoom2d", "pan2d", "resetScale2d"]],
    toImageButtonOptions: { format: "svg" },
  };
  const PRINT_WIDTH = 660;

  const payload = (id) => JSON.parse(document.getElementById(id).textContent);

  async function inflate(base64) {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  async function draw(plot) {
    if (plot.dataset.drawn) return;
    plot.dataset.drawn = "yes";
    const figure = payload(plot.dataset.figure);
    // Figures of one group have the same texts and numbers on hover: they are stored once.
    if (plot.dataset.shares) {
      const { text, customdata } = payload(plot.dataset.shares).data[0];
      Object.assign(figure.data[0], { text, customdata });
    }
    // A finger that scrolls the page must not zoom the figure, and cannot hover over its buttons.
    const touch = window.matchMedia("(pointer: coarse)").matches;
    if (touch) figure.layout.dragmode = false;
    plot.textContent = "";
    await Plotly.newPlot(plot, figure.data, figure.layout, {
      ...CONFIG,
      displayModeBar: touch ? false : "hover",
    });
  }

  const shown = () =>
    [...document.querySelectorAll(".plot")].filter((plot) => !plot.closest("[hidden]"));

  function choose(select) {
    const group = select.closest(".chooser");
    for (const figure of group.querySelectorAll("figure")) {
      figure.hidden = figure.id !== select.value;
    }
    const plot = group.querySelector("figure:not([hidden]) .plot");
    return draw(plot).then(() => Plotly.Plots.resize(plot));
  }

  function fitForPrint(printing) {
    for (const plot of shown()) {
      if (!plot.dataset.drawn) continue;
      const narrow = Math.min(PRINT_WIDTH, plot.closest(".pair") ? PRINT_WIDTH / 2 : PRINT_WIDTH);
      if (printing) Plotly.relayout(plot, { width: narrow, autosize: false });
      else Plotly.relayout(plot, { width: null, autosize: true });
    }
  }

  async function start() {
    const script = document.createElement("script");
    script.textContent = await inflate(document.getElementById("plotly").textContent.trim());
    document.head.append(script);
    for (const select of document.querySelectorAll(".chooser select")) {
      select.disabled = false;
      select.addEventListener("change", () => choose(select));
    }
    window.addEventListener("beforeprint", () => fitForPrint(true));
    window.addEventListener("afterprint", () => fitForPrint(false));
    for (const plot of shown()) {
      await draw(plot);
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    document.documentElement.dataset.figures = "drawn";
  }

  start().catch((error) => {
    for (const plot of document.querySelectorAll(".plot:not([data-drawn])")) {
      plot.textContent = `This browser cannot draw the figure (${error.message}).`;
    }
  });
})();
