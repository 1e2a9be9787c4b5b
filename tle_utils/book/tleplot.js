/* Draws the plotly figures of the book: each when it nears the screen, all of them before printing,
   in the colours of the light or dark theme, with controls and a name that need no mouse and no eyes. */
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
    return changes;
  }

  // Pixels that a panel, a cell of a large matrix and a letter beside them need to be read; what needs more than the page
  // scrolls. Up to CELLS cells a row fit any page; titles of axes make no plot wider than PAGE.
  const COLUMN = 140, CELL = 44, LETTER = 6, CELLS = 4, PAGE = 780;
  function neededWidth(layout, data) {
    const axes = Object.keys(layout).filter((key) => /^xaxis\d*$/.test(key));
    const columns = new Set(axes.map((axis) => (layout[axis].domain || [0])[0].toFixed(3))).size;
    const names = data.flatMap((trace) => Array.from(trace.y || [])).filter((value) => typeof value === "string");
    const letters = Math.max(0, ...names.map((name) => name.length));
    const cells = Math.max(0, ...data.map((trace) => (trace.type === "heatmap" && trace.x ? trace.x.length : 0)));
    const titles = axes.flatMap((axis) => (layout[axis].title?.text || "").split("<br>"));
    const title = Math.min(PAGE, columns * LETTER * 1.25 * Math.max(...titles.map((line) => line.length)));
    const room = Math.max(columns > 1 ? Math.max(columns * COLUMN, title) : 0, cells > CELLS ? cells * CELL : 0);
    return room ? room + letters * LETTER + "px" : "";
  }

  // A title that is wider than the screen goes on in the next line.
  function titles(plot, words) {
    const { w, r } = plot._fullLayout._size;
    const changes = {};
    for (const [key, text] of Object.entries(words)) {
      const letters = Math.max(14, key === "title.text" ? (plot.clientWidth - 40) / 8.5 : (w + 2 * r) / 8);
      const lines = [""];
      for (const word of text.split(" ")) {
        if (lines.at(-1) && lines.at(-1).length + word.length >= letters) lines.push(word);
        else lines.push([lines.pop(), word].filter(Boolean).join(" "));
      }
      changes[key] = lines.join("<br>");
    }
    return changes;
  }
  function titleWords(layout) {
    const parts = { "title.text": layout.title?.text, "xaxis.title.text": layout.xaxis?.title?.text };
    return Object.fromEntries(Object.entries(parts).filter(([, text]) => text && !text.includes("<")));
  }

  // plotly's sliders, menus and buttons cannot be reached by the keyboard: the page's own take their place.
  function controls(box, plot, layout) {
    const run = (step) => step && step.method !== "skip" && Plotly[step.method || "restyle"](plot, ...(step.args || []));
    const make = (tag, words) => Object.assign(document.createElement(tag), words);
    const bar = make("div", { className: "tle-controls" });
    for (const slider of layout.sliders || []) {
      const [label, value] = [make("label"), make("output")];
      const input = make("input", { type: "range", min: 0, max: slider.steps.length - 1, value: slider.active || 0 });
      const { prefix = "", suffix = "" } = slider.currentvalue || {};
      const show = () => {
        value.textContent = prefix + slider.steps[input.value].label + suffix;
        input.setAttribute("aria-valuetext", value.textContent);
      };
      input.setAttribute("aria-label", prefix.replace(/[\s:=]+$/, "") || "Step");
      input.addEventListener("input", () => (show(), run(slider.steps[input.value])));
      show();
      label.append(value, input);
      bar.append(label);
    }
    for (const menu of layout.updatemenus || []) {
      const select = make("select");
      select.setAttribute("aria-label", "What the figure shows");
      select.append(...menu.buttons.map((step) => make("option", { textContent: step.label })));
      select.selectedIndex = menu.active || 0;
      select.addEventListener("change", () => run(menu.buttons[select.selectedIndex]));
      bar.append(select);
    }
    if (bar.childElementCount) box.prepend(bar);
    delete layout.sliders;
    delete layout.updatemenus;
  }

  // One picture with a name for a screen reader, in place of the layers and letters that it is drawn from.
  function describe(plot, words) {
    plot.querySelectorAll("svg.main-svg").forEach((svg, i) => {
      if (i) return svg.setAttribute("aria-hidden", "true");
      svg.setAttribute("role", "img");
      svg.setAttribute("aria-label", words);
    });
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
    plot.style.minWidth = neededWidth(layout, figure.data);
    box.append(plot);
    controls(box, plot, layout);
    Plotly.newPlot(plot, {
      data: figure.data,
      layout,
      frames: figure.frames,
      config: { ...figure.config, displaylogo: false },
    }).then(() => {
      describe(plot, box.getAttribute("aria-label"));
      Plotly.relayout(plot, colours(plot.layout, theme()));
      const words = titleWords(figure.layout);
      if (plot.style.minWidth) delete words["xaxis.title.text"]; // it stands under one panel of many
      // Whatever changes the room of a plot, not the window alone; plotly takes its time, and titles break after that.
      const fit = () => Plotly.Plots.resize(plot).then(() => Plotly.relayout(plot, titles(plot, words)));
      new ResizeObserver(() => plot.clientWidth && fit()).observe(plot);
    });
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
})();
