/* Draws the plotly figures of the book: each when it nears the screen, all of them before printing,
   in the colours of the light or dark theme. */
(() => {
  "use strict";
  const root = document.documentElement;
  const THEMES = {
    light: { ink: "#222832", grid: "#d8dbdf", line: "#5b6470", panel: "#ffffff" },
    dark: { ink: "#ced6dd", grid: "#3b434d", line: "#a4adb8", panel: "#1f262d" },
  };
  const theme = () => THEMES[root.dataset.theme === "dark" ? "dark" : "light"];

  function colours(layout, t) {
    const changes = {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      "font.color": t.ink,
      "title.font.color": t.ink,
      "legend.bgcolor": "rgba(0,0,0,0)",
      "hoverlabel.bgcolor": t.panel,
      "hoverlabel.font.color": t.ink,
      "modebar.bgcolor": "rgba(0,0,0,0)",
      "modebar.color": t.line,
      "modebar.activecolor": t.ink,
    };
    const axes = Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key));
    for (const axis of new Set([...axes, "xaxis", "yaxis"])) {
      Object.assign(changes, {
        [axis + ".gridcolor"]: t.grid,
        [axis + ".linecolor"]: t.line,
        [axis + ".zerolinecolor"]: t.line,
        [axis + ".tickcolor"]: t.line,
      });
    }
    (layout.updatemenus || []).forEach((_, i) => {
      changes[`updatemenus[${i}].bgcolor`] = t.panel;
      changes[`updatemenus[${i}].font.color`] = t.ink;
      changes[`updatemenus[${i}].bordercolor`] = t.line;
    });
    (layout.sliders || []).forEach((_, i) => {
      changes[`sliders[${i}].font.color`] = t.ink;
      changes[`sliders[${i}].bgcolor`] = t.grid;
    });
    return changes;
  }

  const COLUMN = 140; // pixels that a panel needs to be read; a row of panels that needs more than the page scrolls
  function neededWidth(layout) {
    const axes = Object.keys(layout).filter((key) => /^xaxis\d*$/.test(key));
    const columns = new Set(axes.map((axis) => (layout[axis].domain || [0])[0].toFixed(3))).size;
    return columns > 1 ? columns * COLUMN + "px" : "";
  }

  const drawn = [];
  const recolour = (t) => drawn.forEach((plot) => Plotly.relayout(plot, colours(plot.layout, t)));

  function draw(box) {
    const source = box.querySelector(":scope > script");
    if (!source) return;
    const figure = JSON.parse(source.textContent);
    source.remove();
    const layout = { ...figure.layout, autosize: true };
    delete layout.width;
    const plot = document.createElement("div");
    plot.className = "tle-plot-area";
    plot.style.height = box.style.minHeight;
    plot.style.minWidth = neededWidth(layout);
    box.append(plot);
    Plotly.newPlot(plot, {
      data: figure.data,
      layout,
      frames: figure.frames,
      config: { ...figure.config, responsive: true, displaylogo: false },
    }).then(() => Plotly.relayout(plot, colours(plot.layout, theme())));
    drawn.push(plot);
  }

  const boxes = [...document.querySelectorAll(".tle-plot")];
  const watch = new IntersectionObserver(
    (entries) => {
      for (const entry of entries.filter((e) => e.isIntersecting)) {
        watch.unobserve(entry.target);
        draw(entry.target);
      }
    },
    { rootMargin: "400px" },
  );
  boxes.forEach((box) => watch.observe(box));

  new MutationObserver(() => recolour(theme())).observe(root, { attributeFilter: ["data-theme"] });
  window.addEventListener("beforeprint", () => {
    boxes.forEach(draw);
    recolour(THEMES.light);
  });
  window.addEventListener("afterprint", () => recolour(theme()));
})();
